"""The command lines that pages show are such as `dyno` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dyno.command_lines import commands_of, parse
from tests.test_papers import PAGES, ROOT

WITH_COMMANDS = [page for page in PAGES if commands_of(page)]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_parsed(page: Path) -> None:
    for words in commands_of(page):
        parse(words)


def test_a_command_that_dyno_does_not_take_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "dyno none\n```console\n$ dyno load --url U --model 'a b' \\\n    --rate 1 | tee log\n"
        "dyno none  # no such command\n  dyno load --no-option\n```\n"
    )
    first, second, third = commands_of(page)
    assert first == ["load", "--url", "U", "--model", "a b", "--rate", "1"]
    parse(first)
    with pytest.raises(KeyError, match="none"):
        parse(second)
    with pytest.raises(Exception, match="--no-option"):
        parse(third)
