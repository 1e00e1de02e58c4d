"""The live screen: what it shows, and that neither terminal nor keys hold up or spoil a run."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dyno.experiment.loading import load_experiment
from dyno.pipeline.failures import put_aside, record_failures
from dyno.pipeline.race import look_plan
from dyno.terminal.live import progress as live
from dyno.terminal.live.looks import RunLooks
from dyno.terminal.live.screen import Watching, apply
from dyno.terminal.live.update import Advance, Stage
from dyno.terminal.live.view import Look, StageView, VariantView, View
from dyno.terminal.progress import PlainProgress, SafeConsole, progress_for
from foundation.errors import SystemFailed
from foundation.progress import Silent
from foundation.run.json_files import write_json
from foundation.run.layout import RunDirectory
from results.race import Departure, Race
from results.summary import Estimate
from tests.dyno.stored_runs import StoredRun
from tests.dyno.terminal import Terminal

EXPERIMENT = """\
name: watched
model: m
data: {{prompt: "Say hello"}}
variants: [{{name: old, url: {url}, model: m}}]
baseline: old
workload: {{stages: [{{rate: 20, requests: {requests}, warmup: 0s}}], blocks: {blocks}}}
slo: {{latency_p50: 10s}}
"""
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


INT8 = VariantView(
    name="int8",
    requests=208,
    p50=Estimate(value=141.0, low=130.0, high=152.0, n=208),
    p95=Estimate(value=407.0, low=380.0, high=1280.0, n=208),
    quality=Estimate(value=0.886, low=0.84, high=0.92, n=201),
    decision="SHIP",
    reason="quality is 88.6 % and keeps its limit (at least 80.0 %)",
)
BASE = replace(INT8, name="base", p95=Estimate(value=None), decision="DON'T SHIP", reason="slow")


def read_for(descriptor: int, sequence: str) -> str:
    """What a terminal was sent, up to a sequence, or until nothing comes for 30 s."""
    text = ""
    while sequence not in text and select.select([descriptor], [], [], 30.0)[0]:
        text += os.read(descriptor, 1 << 16).decode()
    return text


def drawn(view: View, width: int) -> list[str]:
    console = SafeConsole(width=width)
    with console.capture() as shown:
        console.print(view.drawn(width, now_s=20.0))
    return shown.get().splitlines()


def a_view() -> View:
    stage = StageView(
        "load all variants", 1000, "requests", 10.0, 250, "block 3/40: int8, 4 in flight"
    )
    return View(stage, Look(12, [BASE, INT8]))


def test_a_wide_terminal_shows_everything() -> None:
    lines = "\n".join(drawn(a_view(), 160))
    for words in (
        "load all variants", "250/1000 requests", "25/s", "30 s left",
        "block 3/40: int8, 4 in flight",
        "141 ms (130 to 152 ms)", "407 ms (380 ms to 1.28 s)", "88.6 % (84.0 to 92.0 %)",
        "SHIP  quality is 88.6 %", "DON'T SHIP  slow", "after 12 blocks",
        "the verdict comes at the end",
    ):  # fmt: skip
        assert words in lines, lines
    [base] = [line for line in lines.splitlines() if line.startswith("base")]
    assert "—" in base  # no p95 of too few requests


@pytest.mark.parametrize("width", [30, 40, 63, 64, 80, 99, 100, 200])
def test_every_row_fits_its_terminal(width: int) -> None:
    lines = drawn(a_view(), width)
    assert len(lines) == 6, lines  # none is folded into two
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("load all") and lines[3].startswith("base")
    assert ("(130" in lines[4]) == (width >= 100) and ("208" in lines[4]) == (width >= 64)


def test_updates_add_up_and_the_last_note_stays() -> None:
    view = View()
    for update in (
        Stage(name="load", total=10, unit="requests"),
        Advance(amount=3, note="3 in flight"),
        Advance(amount=2, note=""),
    ):
        apply(view, update, 5.0)
    assert view.stage == StageView("load", 10, "requests", 5.0, 5.0, "3 in flight")


def test_a_look_judges_whole_blocks_only(tmp_path: Path) -> None:
    """Latencies of 200 and 600 ms against a limit of 400 ms; the last block is being written."""
    made = StoredRun(
        variants=("a", "b"), latencies={"b": 600.0}, sections="slo: {latency_p50: 400ms}",
        workload=", race: true",
    )  # fmt: skip
    run = RunDirectory(made.write(tmp_path / "run"))
    journal = run.journal("b", "main", 8)
    whole = journal.read_bytes()
    journal.write_bytes(whole.rpartition(b'{"end"')[0])
    looks = RunLooks(run)
    look = looks.next()
    assert look is not None and look.blocks == 15
    a, b = look.variants
    assert (a.decision, a.requests) == ("SHIP", 400) and abs(a.p50.value - 200) < 10
    assert (b.decision, b.requests) == ("DON'T SHIP", 350) and abs(b.p50.value - 600) < 30
    assert "latency p50" in b.reason
    assert looks.next() is None  # nothing new
    journal.write_bytes(whole)
    plan = look_plan(load_experiment(run.experiment), 2)
    leaving = Departure(variant="b", block=6, reason="breaks", objective="p50", sentence="too slow")
    errors = plan.errors(["a", "b"], [leaving])
    write_json(Race(departures=[leaving], errors=errors), run.race)
    look = looks.next()
    assert look is not None and look.blocks == 16
    a, b = look.variants
    assert (b.is_over, b.reason, b.requests) == (True, "left the race: too slow", 300)
    assert not a.is_over
    assert sorted(path.name for path in run.path.iterdir()) == [
        "environment.json", "experiment.yaml", "load", "prompts.jsonl", "race.json", "variants.json"
    ]  # fmt: skip


def test_a_look_knows_the_variants_whose_servers_died(tmp_path: Path) -> None:
    """The block in which a server died was whole, and is put aside as no measurement."""
    made = StoredRun(variants=("a", "b"), sections="slo: {latency_p50: 400ms}")
    run = RunDirectory(made.write(tmp_path / "run"))
    looks = RunLooks(run)
    look = looks.next()
    assert look is not None and look.blocks == 16 and look.variants[1].decision == "SHIP"
    put_aside(run.journal("b", "main", 8))
    record_failures(run, {"b": SystemFailed("b: its server ended")}, Silent())
    look = looks.next()
    assert look is not None and look.blocks == 15
    a, b = look.variants
    assert (a.decision, b.decision, b.requests) == ("SHIP", "INCONCLUSIVE", 350)
    assert b.reason == "not measured to the end: b: its server ended"


def test_a_look_that_fails_is_said_until_one_is_done() -> None:
    view = a_view()
    watching = Watching(RunDirectory(Path("nowhere")))
    for of, trouble in (
        (OSError("no room"), "no look at the journals: OSError: no room"),
        (None, "no look at the journals: OSError: no room"),  # no new block
        (Look(13, [BASE, INT8]), ""),
    ):
        watching._looking = Future()
        if isinstance(of, OSError):
            watching._looking.set_exception(of)
        else:
            watching._looking.set_result((of, 0.0))
        watching.look(view, 100.0)
        assert view.trouble == trouble and (trouble in "\n".join(drawn(view, 100)))
    assert view.look is not None and view.look.blocks == 13


def test_only_a_terminal_that_can_redraw_has_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as file:
        for term, is_live, wanted in (
            ("xterm", True, live.LiveProgress),
            ("dumb", True, PlainProgress),
            ("xterm", False, PlainProgress),
        ):
            monkeypatch.setenv("TERM", term)
            assert isinstance(progress_for(Console(file=file), live=is_live), wanted)
    os.close(master)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(progress_for(SafeConsole()), PlainProgress)  # coloured, but in a pipe


def test_a_terminal_that_takes_nothing_holds_up_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_LAST_DRAWING_S", 0.2)
    master, slave = pty.openpty()  # nobody reads from it
    with os.fdopen(slave, "w") as file, live.LiveProgress(Console(file=file)) as progress:
        for _ in range(300):
            progress.log("x" * 1000)
        progress.advance(1, "3 in flight")
    os.close(master)


def test_a_screen_that_was_killed_costs_the_run_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with live.LiveProgress(Console()) as progress:
        assert progress._process is not None
        progress._process.kill()
        progress._process.wait()
        progress.stage("load", 3, "requests")
        progress.log("a line")
    assert "a line" in capfd.readouterr().out


def test_the_cursor_is_back_after_a_screen_that_was_killed() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as file:
        with live.LiveProgress(Console(file=file)) as progress:
            assert progress._process is not None
            assert HIDE in read_for(master, HIDE)
            progress._process.kill()
        assert SHOW in read_for(master, SHOW)
    os.close(master)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
def test_the_screen_ends_with_a_run_that_is_killed(
    number: signal.Signals, url: str, tmp_path: Path
) -> None:
    """It gives the terminal back; Ctrl-\\ reaches both of them."""
    text = EXPERIMENT.format(url=url, requests=400, blocks=2)
    (tmp_path / "experiment.yaml").write_text(text)
    with Terminal("-m", "dyno.cli", "run", "experiment.yaml", cwd=tmp_path) as terminal:
        terminal.read_until("in flight")
        if number is signal.SIGKILL:
            terminal.process.kill()
        else:
            terminal.type("\x1c")
        terminal.read_until("")
    assert terminal.process.returncode == -number and terminal.text.count(SHOW) == 1


def test_a_run_in_a_terminal_draws_and_cleans_up(url: str, tmp_path: Path) -> None:
    text = EXPERIMENT.format(url=url, requests=10, blocks=1)
    (tmp_path / "experiment.yaml").write_text(text)
    command = ("-m", "dyno.cli", "run", "experiment.yaml")
    with Terminal(*command, cwd=tmp_path, environment={"NO_COLOR": "1"}) as terminal:
        terminal.read_until("in flight")
        terminal.resize(50)
        terminal.read_until("")
    assert terminal.process.returncode == 0, terminal.words
    assert "load all" in terminal.words and "/10 requests" in terminal.words
    assert "report: runs/watched/report.html" in terminal.words
    assert terminal.text.count(HIDE) == terminal.text.count(SHOW) == 1
    assert terminal.text.index(SHOW) < terminal.text.index("baseline old")
    assert not re.search(r"\x1b\[(?:\d+;)*[349]\d[;m]", terminal.text)  # no colour


def test_ctrl_c_in_a_terminal_ends_run_and_screen(url: str, tmp_path: Path) -> None:
    text = EXPERIMENT.format(url=url, requests=400, blocks=2)
    (tmp_path / "experiment.yaml").write_text(text)
    with Terminal("-m", "dyno.cli", "run", "experiment.yaml", cwd=tmp_path) as terminal:
        terminal.read_until("in flight")
        terminal.type("\x03")
        terminal.read_until("")
    assert terminal.process.returncode == 130
    assert "stopping: waiting for the requests under way" in terminal.words
    assert "interrupted; go on with: dyno run --resume runs/watched" in terminal.words
    assert "Traceback" not in terminal.words and terminal.text.count(SHOW) == 1


@pytest.mark.slow
def test_no_live_prints_plain_lines_on_a_terminal(tmp_path: Path) -> None:
    text = EXPERIMENT.format(url="http://127.0.0.1:9/v1", requests=1, blocks=1)
    (tmp_path / "experiment.yaml").write_text(text)
    command = ("-m", "dyno.cli", "run", "experiment.yaml", "--no-live")
    with Terminal(*command, cwd=tmp_path) as terminal:
        terminal.read_until("")
    assert terminal.process.returncode == 4
    assert "reach servers: 1 server" in terminal.words and HIDE not in terminal.text
