"""Sentences on a terminal are broken between words, in a pipe not at all, and no key is broken."""

from __future__ import annotations

import io

from dyno.terminal.lines import print_line, print_lines, print_notes
from dyno.terminal.progress import SafeConsole
from foundation.secrets import remember

SENTENCE = "latency p95 is 752 ms and keeps its limit (3.00 s); at most 2.07 s with 95 % confidence"


def console(is_terminal: bool, width: int = 60) -> SafeConsole:
    made = SafeConsole(width=width)
    made.file = io.StringIO()
    made._force_terminal = is_terminal
    made.no_color = True
    return made


def printed(to: SafeConsole) -> list[str]:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue().splitlines()


def test_a_pipe_has_one_line_each() -> None:
    to = console(is_terminal=False)
    print_lines(to, [SENTENCE, SENTENCE])
    assert printed(to) == [f"  {SENTENCE}"] * 2


def test_a_terminal_breaks_between_words_and_hangs_what_follows() -> None:
    to = console(is_terminal=True)
    print_lines(to, [f"ok   {SENTENCE}"], hanging=" " * 5)
    first, *rest = printed(to)
    assert first.startswith("  ok   latency") and rest
    assert all(len(line) <= 60 for line in (first, *rest))
    assert all(line.startswith(" " * 7) and line[7] != " " for line in rest)
    assert " ".join(" ".join(printed(to)).split()) == f"ok {SENTENCE}"


def test_a_path_is_never_broken() -> None:
    to, path = console(is_terminal=True), f"/runs/{'long-' * 20}/report.html"
    print_line(to, f"the report is in {path} now")
    assert any(path in line for line in printed(to))


def test_a_key_is_hidden_before_it_could_be_broken_in_two() -> None:
    remember({"tulip canary of lines": "${LINES_KEY}"})
    to = console(is_terminal=True, width=40)
    print_line(to, "it said that the key it got was tulip canary of lines")
    text = " ".join(printed(to))
    assert "${LINES_KEY}" in text and "tulip" not in text and "canary" not in text


def test_notes_have_the_numbers_of_their_cells_and_remarks_none() -> None:
    to = console(is_terminal=False)
    print_notes(to, ["too few"], ["Left out: Energy"])
    assert printed(to) == ["[1] too few", "Left out: Energy"]
