"""Prints sentences: on a terminal broken between words, in a pipe one line each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.style import Style

from foundation.secrets import masked

NARROWEST = 40
INDENT = "  "


def print_line(
    console: Console, line: str, *, indent: str = "", hanging: str = INDENT, style: str = ""
) -> None:
    """Prints a sentence as it is, without markup.

    `hanging`: what a terminal's further lines begin with, beyond `indent`. A path, an address or a
    command's word is never broken.
    """
    lines = [f"{indent}{line}"]
    if console.is_terminal:
        # A key in it is hidden before it can be broken in two.
        lines = textwrap.wrap(
            masked(line),
            max(NARROWEST, console.width),
            initial_indent=indent,
            subsequent_indent=indent + hanging,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [indent]
    for each in lines:
        console.print(each, style=Style.parse(style), markup=False, highlight=False, soft_wrap=True)


def print_lines(console: Console, lines: Sequence[str], *, hanging: str = INDENT) -> None:
    """Prints indented sentences."""
    for line in lines:
        print_line(console, line, indent=INDENT, hanging=hanging)


def print_notes(console: Console, notes: Sequence[str], remarks: Sequence[str]) -> None:
    """Prints what stands under a table: the notes of its cells, and what is said of all of it."""
    for number, note in enumerate(notes, start=1):
        print_line(console, f"[{number}] {note}", hanging="    ")
    for remark in remarks:
        print_line(console, remark)
