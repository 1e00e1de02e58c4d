"""What servers and files say can't steer the terminal, style the text, or show a key on it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyno.terminal.live.view import StageView, View
from dyno.terminal.progress import PlainProgress, SafeConsole
from foundation.secrets import remember

HOSTILE = (
    "\x1b]0;PWNED\x07\x1b[2J\x1b[31mno\x1b[0m \x9b1m\u202e [bold]x[/bold] [/oops] :heart: "
    "sk-terminal-canary-0123"
)


def table(console: Console) -> None:
    made = Table("what", title=HOSTILE, caption=HOSTILE)
    made.add_row(HOSTILE)
    made.add_row(Text(HOSTILE))
    console.print(made)


def screen(console: Console) -> None:
    console.print(View(StageView(HOSTILE, 3, "x", note=HOSTILE), trouble=HOSTILE).drawn(400, 1.0))


def plain(console: Console) -> None:
    with PlainProgress(console) as progress:
        progress.stage(HOSTILE, 3, "x")
        progress.log(HOSTILE)


@pytest.mark.parametrize(
    "show", [lambda c: c.print(HOSTILE), lambda c: c.print(Text(HOSTILE)), table, screen, plain]
)
def test_hostile_words_are_words(show: Callable[[Console], None]) -> None:
    console = SafeConsole(width=400)
    with console.capture() as shown:
        show(console)
    text = shown.get()
    assert not set("\x1b\x07\x9b\u202e") & set(text)
    assert "no" in text and "[bold]x[/bold] [/oops] :heart:" in text


def test_a_terminal_obeys_our_own_sequences_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console = SafeConsole(width=400)
    with console.capture() as shown:
        console.print(HOSTILE, style="bold")
        screen(console)
        console.print(Text("\x1b[2J"))
    assert "\x1b[1m" in shown.get() and "PWNED" not in shown.get() and "\x1b[2J" not in shown.get()


def test_a_key_that_this_process_knows_is_not_shown() -> None:
    remember({"sk-terminal-canary-0123": "${KEY}"})
    console = SafeConsole(width=30)
    with console.capture() as shown:
        console.print(f"an error of many words with {HOSTILE}")
        console.print(Table("what", title=HOSTILE, caption=HOSTILE))
    letters = "".join(filter(str.isalnum, shown.get()))
    assert letters.count("KEY") == 3 and "canary" not in letters


def test_plain_lines_say_what_is_done_of_what_and_how_long_it_takes_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("dyno.terminal.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    console = SafeConsole(width=200)
    with console.capture() as shown, PlainProgress(console) as progress:
        for total in (100, None):
            progress.stage("load", total, "requests")
            now[0] += 4
            progress.advance(10)  # too early for a line
            now[0] += 6
            progress.advance(40)  # 50 in 10 s
    assert shown.get().splitlines() == [
        "load: 100 requests", "load: 50/100 requests, 5/s, 10 s left", "load",
        "load: 50 requests, 5/s",
    ]  # fmt: skip
