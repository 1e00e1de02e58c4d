"""Writes the tables of options in docs/commands.md: python -m tests.dyno.command_tables"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from dyno.cli import app

DOCS = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
BEGIN, END = "<!-- the commands of the code -->\n", "<!-- end -->\n"
SHARED = 3
"""An option that so many commands have alike stands in the table of all."""


def commands() -> Mapping[str, TyperCommand]:
    """The commands of `dyno`, in the order of its help."""
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    every = {name: program.commands[name] for name in program.commands}
    return {name: each for name, each in every.items() if isinstance(each, TyperCommand)}


def written_tables(text: str) -> str:
    """The tables as a text of the docs holds them."""
    return text.partition(BEGIN)[2].partition(END)[0]


def with_tables(text: str) -> str:
    """A text of the docs with the tables of the code in the place of its own."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + tables() + END + rest.partition(END)[2]


def tables() -> str:
    """One table of what several commands have alike, then a heading and a table a command."""
    users: dict[str, list[str]] = {}
    for name, command in commands().items():
        for row in _rows(command):
            users.setdefault(row, []).append(name)
    shared = {row: names for row, names in users.items() if len(names) >= SHARED}
    lines = ["| option | of | what it does |", "|---|---|---|"]
    for row, names in shared.items():
        option, _, what = row.partition(" | ")
        lines.append(f"| {option} | {', '.join(f'`{name}`' for name in names)} | {what} |")
    for name, command in commands().items():
        lines += ["", f"## dyno {name}", "", _sentence(command)]
        if own := [f"| {row} |" for row in _rows(command) if row not in shared]:
            lines += ["", "| option | what it does |", "|---|---|", *own]
    return "\n".join(lines) + "\n\n"


def _sentence(command: TyperCommand) -> str:
    """What the command does, as its help says."""
    return " ".join((command.help or "").split())


def _rows(command: TyperCommand) -> Iterator[str]:
    """Each argument and option with its help, as the cells of a row."""
    for each in command.params:
        if isinstance(each, TyperArgument):
            metavar = (each.metavar or each.name or "").strip("[]").upper()
            yield f"{_code(metavar)} | {each.help}"
        elif isinstance(each, TyperOption):
            given = "" if each.is_flag else f" {each.metavar or 'VALUE'}"
            default = "" if each.default in (None, False) else f" Default: `{each.default}`."
            variable = f" Or in the environment: `{each.envvar}`." if each.envvar else ""
            needed = " Required." if each.required else ""
            yield f"{_code(each.opts[0] + given)} | {each.help}{default}{variable}{needed}"


def _code(text: str) -> str:
    """The text as code in a cell of a table."""
    return "`" + text.replace("|", r"\|") + "`"


if __name__ == "__main__":
    DOCS.write_text(with_tables(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
