"""The timeline: requests and telemetry on one clock, small for large runs, readable by a script."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as Tree

import numpy as np
import pytest
from markupsafe import Markup

from foundation.run.journal import Damage
from foundation.run.records import TelemetrySample
from foundation.run.telemetry import write_samples
from results.capacity.plan.capacity_plan import CapacityPlan
from results.measures.measured import MeasuredVariant
from results.measures.telemetry import Telemetry, read_telemetry
from results.report import write
from results.report.evidence import traces_of
from results.report.figures import timeline as figure
from results.report.figures.thinning import columns_of, extremes, pieces
from results.report.figures.timeline import Lane, Panel, TimelineBlock, Trace, _in_words
from results.report.servers import _absent, servers_of
from results.summary import Summary, Verdicts
from tests.results.report_run import PROVENANCE, make_run, measured_of
from tests.run_files import MS

Made = tuple[tuple[Path, Summary, Verdicts, CapacityPlan], list[MeasuredVariant]]
OLD = Path(__file__).parents[1] / "data" / "run-0.1"
S = 10**9


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    run = tmp_path_factory.mktemp("run")
    summary, verdicts, plan = make_run(run)
    return (run, summary, verdicts, plan), measured_of(run, summary)


def lane(n: int, failed: int = 0, slot: int = 0) -> Lane:
    due = np.linspace(0, 60, n)
    block = TimelineBlock("main", 1, 0.0, 61.0)
    return Lane("a", slot, due, np.full(n, 100.0), np.linspace(0, 60, failed), (block,))


def drawn(plot: Markup) -> Tree.Element:
    return Tree.fromstring(str(plot))


def of_class(tree: Tree.Element, tag: str, css: str) -> list[Tree.Element]:
    return [e for e in tree.iter(tag) if css in (e.get("class") or "").split()]


def points(path: Tree.Element) -> list[tuple[int, int]]:
    """The points of a path as a script reads them: from "M", and relative from "m" and "l"."""
    x = y = 0
    read = []
    for command, a, b in re.findall(r"([Mml])(-?\d+) ?(-?\d+)", path.get("d", "")):
        x, y = (int(a), int(b)) if command == "M" else (x + int(a), y + int(b))
        read.append((x, y))
    return read


def test_every_request_and_every_failure_is_there() -> None:
    plot, is_crowded = figure.timeline([lane(40, 3)])
    [dots], [strokes] = (of_class(drawn(plot), "path", css) for css in ("specks", "failure"))
    assert not is_crowded and len(points(dots)) == 40
    assert strokes.get("d", "").count("M") == 3


def test_blocks_requests_and_failures_stand_at_their_minute() -> None:
    """A block from minute 2 to 4 of 8, a request at 3 and a failure at 4, in shares of the pane."""
    blocks = (TimelineBlock("main", 1, 120.0, 240.0), TimelineBlock("main", 2, 300.0, 480.0))
    one = Lane("a", 0, np.array([180.0]), np.array([100.0]), np.array([240.0]), blocks)
    tree = drawn(figure.timeline([one])[0])
    grid = sorted({float(e.get("x1", "")) for e in of_class(tree, "line", "grid")})
    [pane] = of_class(tree, "svg", "pane")
    left, width = float(pane.get("x", "")), float(pane.get("width", ""))
    _, _, across, _ = map(float, pane.get("viewBox", "").split())

    def x(unit: float) -> float:
        return left + unit / across * width

    first, _ = of_class(tree, "rect", "block")
    [dots], [strokes] = (of_class(tree, "path", css) for css in ("specks", "failure"))
    assert len(grid) == 9  # minutes 0 to 8
    start = float(first.get("x", ""))
    assert x(start) == pytest.approx(grid[2], abs=0.1)
    assert x(start + float(first.get("width", ""))) == pytest.approx(grid[4], abs=0.1)
    assert x(points(dots)[0][0]) == pytest.approx(grid[3], abs=0.1)
    assert x(float(strokes.get("d", "")[1:].split()[0])) == pytest.approx(grid[4], abs=0.1)


def test_values_can_be_read_back_from_the_heights_of_a_line() -> None:
    """Running requests 0 to 12; a sample without a value and a gap cut the line."""
    at = np.array([0.0, 1, 2, 3, 4, 30, 31])
    values = np.array([0.0, 12, 3, np.nan, 6, 6, 9])
    panel = Panel("running", "requests", (Trace("a", 2, at, values),))
    tree = drawn(figure.timeline([lane(5)], [panel])[0])
    [line] = of_class(tree, "path", "level")
    top = float(line.get("data-top", ""))
    read = [(x / figure.ACROSS * 61, (1 - y / figure.TALL) * top) for x, y in points(line)]
    known = ~np.isnan(values)
    assert np.allclose(read, np.column_stack([at, values])[known], atol=0.01)
    assert line.get("d", "").count("M") == 3 and line.get("data-unit") == "requests"
    assert "running: a 0 to 12 requests" in tree.get("aria-description", "")


def test_a_run_of_millions_stays_small_and_keeps_its_extremes() -> None:
    rng = np.random.default_rng(5)
    due = np.sort(rng.uniform(0, 3600, 100_000))
    latency = rng.lognormal(5, 0.4, due.size)
    block = TimelineBlock("main", 1, 0.0, 3600.0)
    lanes = [Lane(str(i), i, due, latency, due[::50], (block,)) for i in range(3)]
    at = np.arange(0, 3600, 0.25)
    peak = rng.uniform(0, 5, at.size)
    peak[7000] = 40.0
    panels = [Panel("running", "requests", (Trace("a", 0, at, peak),))] * 12
    plot, is_crowded = figure.timeline(lanes, panels)
    assert is_crowded and len(plot) < 700_000
    for line in of_class(drawn(plot), "path", "level"):
        assert min(y for _, y in points(line)) == 0  # the peak


def test_columns_hold_the_least_the_middle_and_the_greatest() -> None:
    at = np.array([0.0, 1, 2, 3, 10, 11, 19])
    values = np.array([5.0, 9, 1, 4, 7, 8, 2])
    columns = columns_of(at, values, 20.0, 2)
    assert columns.at.tolist() == [5, 15]
    assert columns.low.tolist() == [1, 2] and columns.high.tolist() == [9, 8]
    assert columns.middle.tolist() == [4, 7]
    assert extremes(at, values, 20.0, 2).tolist() == [1, 2, 5, 6]
    whole = pieces(at, np.array([1.0, np.nan, 1, 1, 1, 1, 1]), 5.0)
    assert whole.tolist() == [0, 1, 1, 1, 2, 2, 3]


def sample(
    at_ns: int,
    unix_ns: int,
    running: int | None = None,
    cpu_s: float | None = None,
    preemptions: int | None = None,
) -> TelemetrySample:
    return TelemetrySample(
        monotonic_ns=at_ns, unix_ns=unix_ns, rss_bytes=10**9, cpu_s=cpu_s, running=running,
        preemptions=preemptions,
    )  # fmt: skip


def test_counts_become_rates_and_what_nobody_read_is_left_out(tmp_path: Path) -> None:
    """3 CPU seconds in 2 s are 1.5 cores; a count that begins again has no rate there."""
    cpu = [1.0, 4.0, 5.0, 0.5, 1.5]
    samples = [
        sample(2 * i * S, 2 * i * S, cpu_s=each, running=None if i == 1 else i)
        for i, each in enumerate(cpu)
    ]
    write_samples(samples, tmp_path / "telemetry" / "a.parquet", {"gpu": "NVML is missing"})
    telemetry = read_telemetry(tmp_path, "a")
    assert isinstance(telemetry, Telemetry) and telemetry.absent == {"gpu": "NVML is missing"}
    assert sorted(telemetry.values) == ["cpu_s", "rss_bytes", "running"]
    assert np.allclose(telemetry.values["cpu_s"], [np.nan, 1.5, 0.5, np.nan, 0.5], equal_nan=True)
    assert np.allclose(telemetry.values["running"], [0, np.nan, 2, 3, 4], equal_nan=True)
    assert read_telemetry(tmp_path, "b") is None


def test_two_busy_cores_are_never_shown_as_more(tmp_path: Path) -> None:
    """CPU time in steps of 10 ms; some samples come 30 ms after another."""
    at_ms = sorted([*range(0, 10_000, 250), *range(1280, 10_000, 1000)])
    samples = [sample(ms * S // 1000, ms * S // 1000, cpu_s=-(-2 * ms // 10) / 100) for ms in at_ms]
    write_samples(samples, tmp_path / "telemetry" / "a.parquet")
    telemetry = read_telemetry(tmp_path, "a")
    assert isinstance(telemetry, Telemetry)
    rates = telemetry.values["cpu_s"]
    assert np.nanmax(rates) < 2.03 and np.nanmin(rates) > 1.97
    assert np.isnan(rates).sum() == 4  # of the first second


def test_samples_of_two_boots_are_not_mixed(tmp_path: Path) -> None:
    """Both count 2 CPU seconds a second, the second from 0 again and on a clock of its own."""
    first = [sample((100 + i) * S, (1000 + i) * S, cpu_s=50.0 + 2 * i) for i in range(4)]
    second = [sample((101 + i) * S, (9000 + i) * S, cpu_s=60.0 + 2 * i) for i in range(4)]
    late = sample(150 * S, 9049 * S, cpu_s=80.0)
    write_samples([*first, *second, late], tmp_path / "telemetry" / "a.parquet")
    telemetry = read_telemetry(tmp_path, "a")
    assert isinstance(telemetry, Telemetry)
    assert (telemetry.unix_ns // S).tolist() == [*range(1000, 1004), *range(9000, 9004), 9049]
    rates = telemetry.values["cpu_s"].tolist()
    assert rates == pytest.approx([np.nan, 2, 2, 2, np.nan, 2, 2, 2, np.nan], nan_ok=True)


def test_a_file_of_version_0_1_gives_its_series() -> None:
    telemetry = read_telemetry(OLD, "int8")
    assert isinstance(telemetry, Telemetry)
    assert {"running", "waiting", "kv_cache_usage", "cpu_s", "rss_bytes"} <= set(telemetry.values)


def test_samples_stand_where_the_requests_of_their_moment_stand(made: Made) -> None:
    """By CLOCK_MONOTONIC under a clock that was set back 3 s, by the time of day after a boot."""
    (run, summary, _, _), measured = made
    traces = [trace for variant in measured for _, _, trace in traces_of(variant)]
    origin = min(traces, key=lambda trace: trace.origin_unix_ns)
    monotonic, unix = origin.origin_monotonic_ns, origin.origin_unix_ns
    moments = [
        (monotonic + 2 * S, unix + 2 * S),
        (monotonic + 4 * S, unix + 4 * S - 3 * S),
        (500 * MS, unix + 6 * S),
    ]
    samples = [sample(*clocks, running=i) for i, clocks in enumerate(moments)]
    for name in ("base", "base-short"):  # one server
        write_samples(samples, run / "telemetry" / f"{name}.parquet")
    (run / "telemetry" / "int8.parquet").write_bytes(b"PAR1 and nothing")
    slots = {variant.variant: i for i, variant in enumerate(summary.variants)}
    servers = servers_of(run, measured, slots)
    running = next(panel for panel in servers.panels if panel.label == "running")
    [trace] = running.traces
    assert trace.name == "base, base-short" and trace.slot == slots["base"]
    by_value = dict(zip(trace.values.tolist(), trace.at.tolist(), strict=True))
    assert by_value == pytest.approx({0: 2.0, 1: 4.0, 2: 6.0})
    missing = [name for name in slots if name not in ("base", "base-short", "int8")]
    assert servers.notes[0] == f"no telemetry of {', '.join(missing)}"
    assert servers.notes[1].startswith("telemetry/int8.parquet: can't be read (")
    assert isinstance(read_telemetry(run, "int8"), Damage)


def test_servers_that_are_sampled_at_the_same_moments_stay_apart(made: Made) -> None:
    (run, summary, _, _), measured = made
    traces = [trace for variant in measured for _, _, trace in traces_of(variant)]
    origin = min(traces, key=lambda trace: trace.origin_unix_ns)
    at = origin.origin_monotonic_ns + S, origin.origin_unix_ns + S
    for name, running in (("base", 1), ("base-short", 2)):
        (run / "telemetry" / f"{name}.parquet").unlink(missing_ok=True)
        write_samples([sample(*at, running=running)], run / "telemetry" / f"{name}.parquet")
    slots = {variant.variant: i for i, variant in enumerate(summary.variants)}
    running = next(p for p in servers_of(run, measured, slots).panels if p.label == "running")
    assert {trace.name: trace.values.tolist() for trace in running.traces} == {
        "base": [1],
        "base-short": [2],
    }


def test_the_page_shows_panels_notes_and_a_small_script(made: Made) -> None:
    (run, summary, verdicts, plan), measured = made
    origin = min(
        (trace for variant in measured for _, _, trace in traces_of(variant)),
        key=lambda trace: trace.origin_unix_ns,
    )
    clocks = [(origin.origin_monotonic_ns + i * S, origin.origin_unix_ns + i * S) for i in range(9)]
    samples = [sample(*each, running=i, preemptions=0) for i, each in enumerate(clocks)]
    absent = {"gpu": "<b>NVML</b> is missing"}
    (run / "telemetry" / "base.parquet").unlink(missing_ok=True)
    write_samples(samples, run / "telemetry" / "base.parquet", absent)
    html, _, _ = write(run, summary, verdicts, plan, PROVENANCE, measured)
    page = html.read_text()
    section = page.partition('<section id="timeline"')[2].partition("</section>")[0]
    assert "server memory" in section and "preemptions" not in section
    assert "<li>Gpu: &lt;b&gt;NVML&lt;/b&gt; is missing</li>" in section
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    assert len(script.encode()) < 10_000
    if node := shutil.which("node"):
        (run / "report.js").write_text(script)
        assert subprocess.run([node, "--check", run / "report.js"]).returncode == 0


def test_one_of_what_is_counted_is_written_in_the_singular() -> None:
    assert _in_words(1.0, "adapters") == "1 adapter"
    assert _in_words(2.0, "adapters") == "2 adapters"
    assert _in_words(0.5, "cores") == "0.500 cores"


def test_a_source_that_is_missing_is_named_for_a_reader() -> None:
    absent = {"gpu_energy_j": "NVML is missing", "/metrics": "HTTP 404"}
    telemetry = SimpleNamespace(absent=absent)
    assert _absent({"base": telemetry}) == [  # type: ignore[dict-item]
        "energy of the GPUs: NVML is missing",
        "/metrics: HTTP 404",
    ]
