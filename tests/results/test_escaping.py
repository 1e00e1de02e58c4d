"""Hostile words in a report, a comment and a CI file stay words, by parsers that are not ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from foundation.printable import visible
from results.report import write
from results.report.junit import clean
from results.report.page import fenced, markdown_text
from results.summary import Summary, VariantSummary, Verdicts

HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> \"' onload=x <!-- ]]> "
    "</td></table></details> &lt; {{ 7*7 }} "
    "`code` ```fence [x](javascript:alert(1)) ![x](http://evil) "
    "http://evil www.evil.org a@b.c @team #1 |a|b| **b** _i_ ~~s~~ "
    "$x$ \\ \x1b[31m \x00\x0b\ufffe \u202e\u200b \r\n\n- list\n# title\n===\n1. one"
)
ODD = st.text(
    st.one_of(
        st.sampled_from("\\`*_[](){}<>|~#$!&@:;/.-+=0123\"'\r\n\t wW\x1b\x00\u202e\ufffe"),
        st.characters(),
    )
)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def text_of(tokens: Iterable[Any]) -> str:
    """The text of inline tokens; any other token shows that Markdown made more of it."""
    return "".join(
        token.content if token.type == "text" else f"\0{token.type}\0" for token in tokens
    )


@given(ODD)
@settings(max_examples=300)
def test_markdown_shows_a_text_as_it_was(text: str) -> None:
    safe = markdown_text(text)
    expected = " ".join(visible(text).split())
    for line in (safe, f"- {safe}", f"**{safe}**", f"## {safe}"):
        inline = [token for token in MARKDOWN.parse(line) if token.type == "inline"]
        if not expected:
            continue
        inline_text = text_of(
            token
            for token in inline[0].children or ()
            if token.type not in ("strong_open", "strong_close")
        )
        assert len(inline) == 1 and inline_text.replace("@\u200b", "@") == expected
    row = MARKDOWN.parse(f"| a | b |\n|---|---|\n| {safe} | x |")
    assert [token.type for token in row].count("td_open") == 2
    assert not re.search(r"(?<!\\)\b(?:https?://|www\.)", safe)


@given(ODD)
def test_a_code_block_ends_where_it_is_to_end(text: str) -> None:
    tokens = MARKDOWN.parse(f"1. try\n\n{fenced(text)}\n\nafter")
    blocks = [token for token in tokens if token.type == "fence"]
    assert len(blocks) == 1 and tokens[-2].content == "after"


@given(ODD)
def test_xml_holds_what_junit_is_given(text: str) -> None:
    case = Tree.Element("testcase", name=clean(text))
    case.text = clean(text)
    read = Tree.fromstring(Tree.tostring(case, encoding="unicode"))
    assert read.get("name") == clean(text) and (read.text or "") == clean(text)
    assert clean("grün \U0001f600 <a>") == "grün \U0001f600 <a>"


class Shape(HTMLParser):
    """The elements of a page with the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, list[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, [name for name, _ in attributes]))


def page_of(folder: Path, words: str) -> tuple[str, str, str]:
    """Report, Markdown and JUnit of a run in which everything is named so."""
    folder.mkdir()
    (folder / "experiment.yaml").write_text(f"# {words!r}\n", encoding="utf-8")
    variant = VariantSummary(
        variant="base", what=words, prompt_style=words, judged_stage=words, metrics={},
        differences={}, probes={}, probe_differences={}, stages=[],
    )  # fmt: skip
    summary = Summary(
        schema_version=1, name=words, baseline="base", metrics={}, variants=[variant], notes=[words]
    )
    verdicts = Verdicts(
        schema_version=1, name=words, baseline="base", recommended=None, headline=words, variants=[]
    )
    files = write(folder, summary, verdicts, None, {"models": {words: words}, "commit": words}, [])
    html, markdown, junit = (file.read_text(encoding="utf-8") for file in files)
    return html, markdown, junit


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    return page_of(tmp_path_factory.mktemp("report") / "hostile", HOSTILE)


def test_a_report_has_no_element_or_attribute_by_its_words(
    hostile: tuple[str, str, str], tmp_path: Path
) -> None:
    plain = page_of(tmp_path / "plain", "words")[0]
    assert Shape(hostile[0]).elements == Shape(plain).elements
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", hostile[0])
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', hostile[0])
    assert policy is not None and "default-src 'none'" in policy[1]


def test_markdown_and_junit_of_hostile_words(hostile: tuple[str, str, str], tmp_path: Path) -> None:
    plain = page_of(tmp_path / "plain", "words")
    kinds = [[token.type for token in MARKDOWN.parse(text)] for text in (hostile[1], plain[1])]
    assert kinds[0] == kinds[1]
    cases = [
        [element.tag for element in Tree.fromstring(text).iter()] for text in (hostile[2], plain[2])
    ]
    assert cases[0] == cases[1]
    for text in hostile[1:]:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
