"""Energy, throttled clocks and speculative decoding, from hand-made telemetry of known power."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foundation.arrays import Floats
from foundation.run.records import TelemetrySample
from foundation.run.telemetry import write_samples
from results.analysis.run_summary import analyse
from results.measures.counter_samples import CounterSamples, Window, increase
from results.measures.energy import energy_metrics, idle_power
from results.measures.speculative import speculative_metrics
from results.measures.throttling import throttling_doubts
from results.statistics.intervals import absent
from tests.results.synthetic import inputs, request, write_journal

S = 1_000_000_000
ORIGIN = 7_000_000 * S  # 80 days of uptime: too many ns for a float's precision


def telemetry(seconds: Floats, **columns: Floats) -> CounterSamples:
    everything = {
        name: np.full(len(seconds), np.nan)
        for name in TelemetrySample.__struct_fields__
        if name != "monotonic_ns"
    }
    at_ns = ORIGIN + np.round(seconds * 1e9).astype(np.int64)
    return CounterSamples(
        at_ns, everything | columns, {"gpu_energy_j": "no NVML", "cpu_energy_j": "no"}
    )


def window(block: int, start_s: float, end_s: float, completed: int, tokens: float = 0) -> Window:
    return Window(
        block, ORIGIN + int(start_s * S), ORIGIN + int(end_s * S), completed, tokens or completed
    )


# 100 W while idle up to 10 s, 300 W in [10, 20), 100 W again in [20, 30), 500 W in [30, 40).
AT = np.arange(0.1, 45, 0.25)
GPU = np.interp(AT, [0, 10, 20, 30, 40, 50], [0, 1000, 4000, 5000, 10_000, 11_000])
RUNNING = np.where((AT >= 10) & (AT < 20) | (AT >= 30) & (AT < 40), 2.0, 0.0)
WINDOWS = [window(1, 12, 18, 10, 100), window(2, 31, 39, 20, 100)]
BUSY = telemetry(
    AT,
    gpu_energy_j=GPU,
    gpu_memory_bytes=np.full(len(AT), 40e9),
    running=RUNNING,
    waiting=np.zeros(len(AT)),
    prompt_tokens=np.cumsum(RUNNING),
    generation_tokens=np.cumsum(RUNNING),
)


def test_energy_is_the_counters_growth_in_the_windows_over_what_ended_there() -> None:
    idle = idle_power("v", {"v": BUSY})
    assert idle.value == pytest.approx(100)
    metrics = energy_metrics(BUSY, WINDOWS, idle)
    used = 6 * 300 + 8 * 500
    assert metrics["energy_per_request"].value == pytest.approx(used / 30)
    assert metrics["energy_per_output_token"].value == pytest.approx(used / 200)
    assert metrics["energy_above_idle"].value == pytest.approx((used - 14 * 100) / 30)
    low, high = metrics["energy_per_request"].low, metrics["energy_per_request"].high
    assert low is not None and high is not None and low < used / 30 < high


def test_processors_and_gpus_are_added() -> None:
    both = replace(BUSY, columns={**BUSY.columns, "cpu_energy_j": 50 * AT})
    metrics = energy_metrics(both, WINDOWS[:1], idle_power("v", {"v": both}))
    assert metrics["energy_per_request"].value == pytest.approx(6 * 350 / 10)
    assert metrics["energy_per_request"].reason == "an interval needs at least two blocks"
    assert metrics["idle_power"].value == pytest.approx(150)


def test_another_variants_load_is_not_idle_time_and_an_unknown_one_says_so() -> None:
    quiet = replace(BUSY, columns={**BUSY.columns, "running": np.zeros(len(AT))})
    still = {**quiet.columns, "prompt_tokens": RUNNING * 0, "generation_tokens": RUNNING * 0}
    ours = replace(quiet, columns=still)
    assert idle_power("v", {"v": ours, "w": BUSY}).value == pytest.approx(100)
    mean = (GPU[-1] - GPU[0]) / (AT[-1] - AT[0])
    assert idle_power("v", {"v": ours}).value == pytest.approx(mean)
    assert idle_power("v", {"v": ours, "w": None}).reason == "whether w was idle is not known"
    always = replace(ours, columns={**still, "running": np.ones(len(AT))})
    assert idle_power("v", {"v": ours, "w": always}).reason == "no server was idle for 2 s"


def test_a_server_that_wakes_is_at_work_and_so_is_what_the_counter_books_late() -> None:
    """As on an H200: asleep servers 100 W, waking 300 W in [22, 23), booked 0.1 s later."""
    joules = np.interp(AT, [0, 20, 22.1, 23.1, 45], [0, 2000, 2210, 2510, 4700])
    memory = np.interp(AT, [22, 23], [3e9, 120e9])
    still = np.zeros(len(AT))
    columns = {"running": still, "prompt_tokens": still, "generation_tokens": still}
    for read in (memory, np.where((AT > 21.7) & (AT < 23.2), np.nan, memory)):
        asleep = telemetry(AT, gpu_energy_j=joules, gpu_memory_bytes=read, **columns)
        assert idle_power("v", {"v": asleep}).value == pytest.approx(100)
    asleep = telemetry(AT, gpu_energy_j=joules, **columns)
    reason = "GPU memory was not read: whether a server woke is not known"
    assert idle_power("v", {"v": asleep}).reason == reason


def test_a_counter_that_began_again_has_no_idle_power() -> None:
    again = {**BUSY.columns, "gpu_energy_j": np.where(AT < 25, GPU, GPU - 4000)}
    idle = idle_power("v", {"v": replace(BUSY, columns=again)})
    assert idle.reason == "an energy counter began again while no server had a request"


def test_without_a_counter_there_is_no_energy_and_why() -> None:
    metrics = energy_metrics(telemetry(AT), WINDOWS, absent("unknown"))
    assert metrics["energy_per_request"].reason == "no energy counter: no NVML, and no"
    metrics = energy_metrics(None, WINDOWS, absent("unknown"))
    assert metrics["idle_power"].reason == "no energy counter: the server has no telemetry"


def test_a_gap_or_a_counter_that_began_again_is_no_energy() -> None:
    late = (AT < 17) | (AT > 20)
    gap = telemetry(AT[late], gpu_energy_j=GPU[late])
    reason = energy_metrics(gap, WINDOWS, absent("unknown"))["energy_per_request"].reason
    assert reason == "the energy counter has a gap at block 1"
    again = telemetry(AT, gpu_energy_j=np.where(AT < 15, GPU, GPU - 1400))
    assert increase(again, "gpu_energy_j", WINDOWS[0]) is None
    assert increase(again, "gpu_energy_j", WINDOWS[1]) == pytest.approx(4000)
    before = telemetry(AT[AT > 13], gpu_energy_j=GPU[AT > 13])
    assert increase(before, "gpu_energy_j", WINDOWS[0]) is None


def test_no_request_no_energy_per_request() -> None:
    empty = [replace(each, completed=0, output_tokens=0.0) for each in WINDOWS]
    metrics = energy_metrics(BUSY, empty, absent("unknown"))
    reason = "no request was completed in the steady window"
    assert metrics["energy_per_request"].reason == reason


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0x40, "heat (hardware thermal slowdown)"),
        (0x88, "a hardware slowdown and the power brake"),
    ],
)
def test_a_clock_that_was_lowered_in_a_block_makes_the_stage_suspect(mask: int, words: str) -> None:
    masks = np.where((AT > 15) & (AT < 25), float(mask | 0x4), 4.0)
    [(level, sentence)] = throttling_doubts(telemetry(AT, gpu_throttle=masks), WINDOWS)
    assert level == "SUSPECT"
    assert sentence == f"{words} lowered the GPUs' clocks for 2.9 s of 14 s, in 1 block (1)"


def test_the_power_limit_or_idle_clocks_outside_a_block_are_no_doubt() -> None:
    masks = np.where((AT > 20) & (AT < 30), 64.0, 5.0)
    assert throttling_doubts(telemetry(AT, gpu_throttle=masks), WINDOWS) == []
    assert throttling_doubts(telemetry(AT), WINDOWS) == throttling_doubts(None, WINDOWS) == []


def test_acceptance_is_of_the_counters_growth_and_absent_where_nothing_is_drafted() -> None:
    drafts = AT * 10
    counted = telemetry(
        AT, spec_drafts=drafts, spec_draft_tokens=5 * drafts, spec_accepted_tokens=2 * drafts
    )
    metrics = speculative_metrics(counted, WINDOWS)
    assert metrics["spec_acceptance"].value == pytest.approx(0.4)
    assert metrics["spec_accepted_length"].value == pytest.approx(3)
    assert metrics["spec_acceptance"].n == 700
    assert speculative_metrics(telemetry(AT), WINDOWS) == speculative_metrics(None, WINDOWS) == {}
    none = telemetry(
        AT, **dict.fromkeys(("spec_drafts", "spec_draft_tokens", "spec_accepted_tokens"), AT * 0)
    )
    assert speculative_metrics(none, WINDOWS)["spec_acceptance"].value is None


def test_a_run_with_telemetry_has_energy_a_doubt_and_acceptance(tmp_path: Path) -> None:
    records = [request(i, "p", 100 * i, 10, 5, output_tokens=3, text="yes") for i in range(100)]
    write_journal(tmp_path, "base", 1, records, window_ms=(1000, 9000))
    samples = [
        TelemetrySample(
            monotonic_ns=i * S // 4, unix_ns=0, rss_bytes=None, cpu_s=None, running=int(i < 40),
            prompt_tokens=min(i, 40), generation_tokens=min(i, 40), gpu_energy_j=50.0 * i,
            gpu_memory_bytes=40 * 2**30,
            gpu_throttle=0x40 if i == 10 else 0, spec_drafts=i, spec_draft_tokens=4 * i,
            spec_accepted_tokens=i,
        )
        for i in range(80)
    ]  # fmt: skip
    write_samples(samples, tmp_path / "telemetry" / "base.parquet")
    [variant] = analyse(inputs(tmp_path, ["base"])).variants
    [stage] = variant.stages
    joules = stage.metrics["energy_per_request"].value
    assert joules == pytest.approx(8 * 200 / 80) and stage.metrics["idle_power"].value == 200
    assert stage.metrics["spec_acceptance"].value == pytest.approx(0.25)
    assert variant.metrics["energy_per_correct"].reason is not None  # the prompts have no scores
    assert any("GPUs' clocks for 0.2 s of 8 s" in reason for reason in stage.validity.reasons)
