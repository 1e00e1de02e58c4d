"""Command lines in pages and scripts, parsed by the parser of `dyno`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import typer

from dyno.cli import app

_FENCED = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
_COMMAND = re.compile(r"^ *(?:\$ )?(dyno [^\n]*)", re.M)
_OPERATORS = frozenset({"|", "||", "&&", "&", ";", ">", ">>", "<", "2>"})


def parse(words: Sequence[str]) -> None:
    """Parses `dyno WORDS...` and runs nothing. Raises KeyError or what the parser raises."""
    name, *arguments = words
    program = typer.main.get_command(app)
    assert isinstance(program, typer.core.TyperGroup)
    program.commands[name].make_context(name, list(arguments))


def commands_of(page: Path) -> list[list[str]]:
    """The words after `dyno` of each command in the fenced parts of a page."""
    text = "\n".join(_FENCED.findall(page.read_text(encoding="utf-8"))).replace("\\\n", "")
    return [_words(line)[1:] for line in _COMMAND.findall(text)]


def _words(line: str) -> list[str]:
    """The words of a command as the shell divides it, up to a pipe or the like."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    return list(takewhile(lambda word: word not in _OPERATORS, words))
