"""How long a run takes: ranges by hand from a machine's past, and the time left during the run."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from dyno.estimates import machine_speed
from dyno.estimates.machine_speed import Kind, Pace, Range, Speed, Work
from dyno.estimates.stages import StageEstimate, estimate_stages, total
from dyno.estimates.timeline import BlockTimes, Timeline, span
from dyno.experiment.schema import Experiment
from dyno.pipeline.prepared import Prepared
from foundation.models.model import ModelRef
from foundation.progress import Silent
from foundation.run.records import Prompt
from serve import ServePlan
from serve.dtype import ServedDtype
from serve.plan import ServerPlan
from serve.vllm.memory import MemoryEstimate
from tests.dyno.test_settle_weights import prepared as of_adapters

MODEL_BYTES = 270_000_000


def work(kind: Kind, amount: float, seconds: float, **more: object) -> Work:
    return Work(
        **{
            "kind": kind,
            "device": "cpu",
            "model_bytes": MODEL_BYTES,
            "amount": amount,
            "seconds": seconds,
            **more,
        }
    )


def test_a_stage_takes_what_such_stages_took_here() -> None:
    known = Pace("cpu", [work("finetune", 1000, 10), work("finetune", 1000, 20)], None)
    # 10 and 20 ms a token; 5,000 tokens of the same model take 50 to 100 s, give or take a quarter.
    assert known.of("finetune", 5000, MODEL_BYTES) == Range(50 / 1.25, 100 * 1.25)
    # Twice the weights take twice the time; eight times as many say nothing.
    assert known.of("finetune", 5000, 2 * MODEL_BYTES) == Range(100 / 1.25, 200 * 1.25)
    assert known.of("finetune", 5000, 8 * MODEL_BYTES) is None
    assert known.of("load", 5000, MODEL_BYTES) is None
    assert Pace("cuda", known.works, None).of("finetune", 5000, MODEL_BYTES) is None


def test_a_server_s_start_does_not_grow_with_its_model() -> None:
    known = Pace("cpu", [work("server", 2, 60)], None)
    assert known.of("server", 3, 2 * MODEL_BYTES) == Range(90 / 1.25, 90 * 1.25)


def test_a_load_that_left_the_server_idle_tells_nothing_of_its_speed() -> None:
    assert (
        Pace("cpu", [work("load", 100, 60, saturated=False)], None).of("load", 100, MODEL_BYTES)
        is None
    )


def test_what_was_done_is_kept_and_damage_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path))
    assert machine_speed.read_works() == []
    done = work("finetune", 1000, 10)
    machine_speed.record_work(done)
    machine_speed.record_work(work("finetune", 0, 10))  # nothing was done
    with machine_speed.pace_file().open("ab") as file:
        file.write(
            b'{"kind":"finetune","dev\n'
            b'{"kind":"finetune","device":"cpu","model_bytes":1,"amount":-1,"seconds":5}\n'
        )
    small = work("server", 0.5, 0.5, model_bytes=1)
    machine_speed.record_work(small)
    assert machine_speed.read_works() == [done, small]


def prepared(folder: Path, stages: str) -> tuple[Prepared, ServePlan]:
    model = folder / "model"
    model.mkdir()
    with (model / "model.safetensors").open("wb") as file:
        file.truncate(MODEL_BYTES)
    ref = ModelRef("m", None, model)
    experiment = Experiment.model_validate(
        {
            "name": "t", "model": "m", "data": {"prompt": "x" * 400},
            "variants": [{"name": "base"}], "baseline": "base",
            "workload": {"stages": [{**stage} for stage in STAGES[stages]], "blocks": 2,
                "sampling": {"max_tokens": 100}},
        }
    )  # fmt: skip
    prompts = [Prompt("prompt", "eval", {"plain": [{"role": "user", "content": "x" * 400}]})]
    server = ServerPlan("base", (), (), MemoryEstimate(MODEL_BYTES, 0, 0), ServedDtype("bfloat16"))
    plan = ServePlan((server,), (), "resident", (("base",),), 1, (), experiment.serve)
    return Prepared(experiment, folder, {"m": ref}, [], [], prompts, None, {}), plan


STAGES: dict[str, list[dict[str, object]]] = {
    "closed": [{"concurrency": 4, "requests": 50, "warmup": "0s"}],
    "open": [{"rate": 2, "requests": 50, "arrivals": "constant", "warmup": "0s"}],
}


def test_a_server_starts_in_what_starts_took_here_or_in_what_they_take_elsewhere(
    tmp_path: Path,
) -> None:
    made, plan = prepared(tmp_path, "closed")
    [here, _] = estimate_stages(made, plan, Pace("cpu", [work("server", 2, 60)], None))
    assert here.seconds == Range(30 / 1.25, 30 * 1.25)
    [elsewhere, _] = estimate_stages(made, plan, Pace("cpu", [], None))
    assert elsewhere.seconds == Range(15.0, 90.0)


def test_a_closed_loop_takes_what_its_tokens_take(tmp_path: Path) -> None:
    # 200 tokens/s: a request of 100 tokens in and 10 to 100 out takes 0.55 to 1 s; 2 x 50 of them.
    made, plan = prepared(tmp_path, "closed")
    [_, load] = estimate_stages(made, plan, Pace("cpu", [work("load", 2000, 10)], None))
    assert load.seconds is not None
    assert load.seconds.low == pytest.approx(2 * 50 * 0.55 / 1.25)
    assert load.seconds.high == pytest.approx(2 * 50 * 1.0 * 1.25)
    assert load.basis == "seen here"


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    of, plan = of_adapters(tmp_path), prepared(tmp_path, "closed")[1]
    pace = Pace("cpu", [], None)
    whole = estimate_stages(of, plan, pace)
    assert [each.kind for each in whole] == ["finetune", "checkpoint", "server", "load"]
    adapter = of.graph.trained().identity
    left = estimate_stages(of, plan, pace, {adapter})
    assert [each.kind for each in left] == ["checkpoint", "server", "load"]
    every = {artifact.identity for artifact in of.graph.folders}
    assert [each.kind for each in estimate_stages(of, plan, pace, every)] == ["server", "load"]


def test_the_loads_of_models_take_their_time_limit(tmp_path: Path) -> None:
    made, plan = prepared(tmp_path, "closed")
    workload = made.experiment.workload.model_copy(update={"model": True})
    made = replace(made, experiment=made.experiment.model_copy(update={"workload": workload}))
    *_, model = estimate_stages(made, plan, Pace("cpu", [], None))
    assert (model.what, model.basis) == ("loads for step times x 1 variants", "its time limit")
    assert model.seconds == Range(180.0, 180.0)


def test_an_open_loop_takes_its_schedule_and_longer_where_the_server_can_t_keep_up(
    tmp_path: Path,
) -> None:
    made, plan = prepared(tmp_path, "open")
    [_, keeps_up] = estimate_stages(made, plan, Pace("cpu", [work("load", 200_000, 10)], None))
    assert keeps_up.seconds == Range(50.0, 50.0)
    [_, too_slow] = estimate_stages(made, plan, Pace("cpu", [work("load", 2000, 20)], None))
    assert too_slow.seconds is not None
    assert too_slow.seconds.low == 50.0
    assert too_slow.seconds.high == pytest.approx(2 * 50 * 2.0 * 1.25)


def test_a_replay_takes_as_long_as_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.jsonl").write_text("".join(f'{{"at": {30 * i}}}\n' for i in range(9)))
    stage = {
        "trace": {"file": str(tmp_path / "t.jsonl"), "speed": 2},
        "requests": 6,
        "warmup": "0s",
    }
    monkeypatch.setitem(STAGES, "replay", [stage])
    made, plan = prepared(tmp_path, "replay")
    [_, load] = estimate_stages(made, plan, Pace("cpu", [work("load", 200_000, 10)], None))
    assert load.seconds == Range(180.0, 180.0)  # 6 gaps of 15 s, 2 blocks


def test_without_a_past_the_processor_s_speed_gives_a_wider_range(tmp_path: Path) -> None:
    made, plan = prepared(tmp_path, "closed")
    slow, fast = (Pace("cpu", [], Speed(flops=1e11 * k, bytes_per_s=5e9 * k)) for k in (1, 10))
    [_, here] = estimate_stages(made, plan, slow)
    [_, there] = estimate_stages(made, plan, fast)
    assert here.basis == "from this processor's speed"
    assert here.seconds is not None
    assert there.seconds is not None
    assert here.seconds.low == pytest.approx(10 * there.seconds.low)
    assert here.seconds.high > 4 * here.seconds.low


class Log(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


def test_what_is_left_is_corrected_by_what_was_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path))
    stages = [
        StageEstimate("finetune", "finetune", "", Range(50, 100), "from this processor's speed"),
        StageEstimate("server", "serve", "", Range(30, 40), "seen here"),
        StageEstimate("load", "load", "", Range(100, 200), "from this processor's speed"),
        StageEstimate("load", "load", "", None, "typical, not measured here"),
    ]
    now, log = [0.0], Log()
    timeline = Timeline(stages, "cpu", log, clock=lambda: now[0])
    assert timeline.left() == total(stages) == Range(180, 340)
    with timeline.doing("finetune", amount=1000, model_bytes=MODEL_BYTES):
        now[0] = 300.0  # three times the upper estimate, so the load is expected to be so too
    assert timeline.left() == Range(30 + 300, 40 + 600)
    assert log.lines == ["finetune: took 5 min; 6 to 11 min left"]
    assert machine_speed.read_works() == [work("finetune", 1000, 300.0)]
    with timeline.doing("server", part=0.5):
        now[0] += 5
    assert timeline.left() == Range(15 + 300, 20 + 600)


def test_a_stage_that_fails_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path))
    timeline = Timeline([], "cpu", Silent())
    with pytest.raises(RuntimeError), timeline.doing("finetune", amount=5, model_bytes=1):
        raise RuntimeError
    assert machine_speed.read_works() == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (Range(40, 40.2), "about 40 s"),
        (Range(130, 700), "2 to 12 min"),
        (Range(40, 180), "40 s to 3 min"),
    ],
)
def test_a_span_in_words(seconds: Range, text: str) -> None:
    assert span(seconds) == text


def test_the_time_for_the_blocks_that_are_left_is_told_once_all_kinds_were_measured() -> None:
    times = BlockTimes()
    left = [("a", "s"), ("b", "s"), ("a", "s")]
    times.add("a", "s", 4.0, 10)
    times.add("a", "s", 6.0, 10)
    assert times.first_prediction(left) is None  # nobody knows b yet
    times.add("b", "s", 20.0, 10)
    assert times.first_prediction(left) == 5.0 + 20.0 + 5.0
    assert times.first_prediction(left) is None  # once
    assert times.requests == {("a", "s"): 20, ("b", "s"): 10}


@pytest.mark.parametrize(("load", "kept"), [(0.1, True), (99.0, False)])
def test_what_a_busy_machine_shows_of_its_speed_is_not_kept_for_later_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: float, kept: bool
) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path))
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    reads = count()
    clock = SimpleNamespace(perf_counter=lambda: next(reads) / 32)
    monkeypatch.setattr(machine_speed, "time", clock)
    speed = machine_speed.measure_speed(progress=Silent())
    # Each clock read is 1/32 s later. A look of 0.08 s ends at its third, after two products.
    # Weights are 2048 x 2048 of 2 bytes; a large product has 512 rows, 2 operations each a weight.
    assert speed.bytes_per_s == pytest.approx(2 / (3 / 32) * 2 * 2048**2)
    assert speed.flops == pytest.approx(2 / (3 / 32) * 2 * 512 * 2048**2)
    assert machine_speed.stored_speed() == (speed if kept else None)
