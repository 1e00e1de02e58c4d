"""The whole pipeline, from `experiment.yaml` to the verdict, with vLLM and a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from foundation.run.records import JournalEnd, JournalHeader, RequestRecord
from results.summary import Summary, Verdicts
from tests.tiny_model import build_tiny_model

EXPERIMENT = """\
name: tiny
model: base-model
data: {train: train.jsonl, eval: eval.jsonl}
prompts:
  short: "Sort: {input}"
  long: "You sort words into vowel or consonant by their first letter.
    Answer with one word.\\n\\nSort: {input}"
finetune: {prompt: short, rank: 8, epochs: 2, batch_size: 8, learning_rate: 0.01}
variants:
  - {name: base, prompt: long}
  - {name: tuned, prompt: short, adapter: finetune}
  - {name: int8, prompt: short, merge: finetune, quantize: w8a8-int8}
baseline: base
serve: {enforce_eager: true, max_model_len: 512, kv_cache: 256MiB}
workload:
  stages:
    - {rate: 10, requests: 12, warmup: 300ms}
    - {concurrency: 3, requests: 9, warmup: 300ms}
  blocks: 2
  sampling: {max_tokens: 8}
slo: {latency_p50: 30s, error_rate: 50%}
quality: {scorer: exact_match, probes: [{name: greeting, data: probe.jsonl, scorer: contains}]}
budget: {price: {accelerator_hour: $1}, per_month: $1M, requests_per_month: 1k}
plan: {peak_rate: 50/s}
"""


def write_experiment(folder: Path, text: str = EXPERIMENT) -> Path:
    build_tiny_model(folder / "base-model")
    words = [f"{letter}{n}" for letter in "abcdefghijklmnopqrstuvwxyz" for n in range(10)]
    rows = [
        {"instruction": "Sort.", "input": w, "output": "vowel" if w[0] in "aeiou" else "consonant"}
        for w in words
    ]
    for name, part in (("train", rows[:200]), ("eval", rows[200:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "probe.jsonl").write_text('{"prompt": "Say hello.", "completion": "hello"}\n' * 4)
    (folder / "experiment.yaml").write_text(text)
    return folder / "experiment.yaml"


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dyno.cli", *arguments],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.timeout(900)
def test_a_run_from_the_experiment_to_the_verdict(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    process = start("run", str(write_experiment(tmp_path)), cwd=tmp_path)
    output, _ = process.communicate(timeout=840)
    assert process.returncode == 0, output
    check_journals(run)
    check_results(run, output)
    check_rebuilt_byte_for_byte(run, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_cut_off_resumed_and_served_again(tmp_path: Path) -> None:
    file = write_experiment(tmp_path)
    run = tmp_path / "runs" / "tiny"

    # Interrupted in the middle of the load: drained, nothing left behind, what was measured kept.
    first = start("run", str(file), cwd=tmp_path)
    wait_for(lambda: len(list(run.glob("load/*/*/block-*.jsonl"))) >= 4, first)
    family = psutil.Process(first.pid).children(recursive=True)
    assert family
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 130, output
    assert f"dyno run --resume {run.relative_to(tmp_path)}" in output
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    kept = {
        path: path.read_bytes()
        for path in run.glob("load/*/*/block-*.jsonl")
        if '"end":"complete"' in path.read_text()
    }
    adapter = (run / "adapters" / "finetune" / "adapter_model.safetensors").stat().st_mtime_ns
    assert kept

    # Resumed: nothing whole is made again.
    second = start("run", "--resume", str(run), cwd=tmp_path)
    output, _ = second.communicate(timeout=420)
    assert second.returncode == 0, output
    assert (
        run / "adapters" / "finetune" / "adapter_model.safetensors"
    ).stat().st_mtime_ns == adapter
    assert all(path.read_bytes() == before for path, before in kept.items())
    check_journals(run)
    check_results(run, output)
    check_rebuilt_byte_for_byte(run, tmp_path)
    check_served_again(run, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_servers_take_turns_where_memory_holds_only_one(tmp_path: Path) -> None:
    file = write_experiment(
        tmp_path, EXPERIMENT.replace("kv_cache: 256MiB", "kv_cache: 256MiB, memory: 4GiB")
    )
    run = tmp_path / "runs" / "tiny"
    process = start("run", str(file), cwd=tmp_path)
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 0, output
    assert output.count("start servers: 1 server\n") == 3
    check_journals(run)
    check_results(run, output)
    assert "turns" in (run / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_an_epochs_adapter_a_pruned_and_a_distilled_model_are_ordinary_variants(
    tmp_path: Path,
) -> None:
    begin, end = EXPERIMENT.index("variants:"), EXPERIMENT.index("baseline:")
    variants = """\
variants:
  - {name: base, prompt: long}
  - {name: first, prompt: short, adapter: finetune/epoch-1}
  - {name: pruned, prompt: short, prune: 50%}
  - {name: student, prompt: short, prune: 50%, distil: first}
"""
    text = EXPERIMENT[:begin] + variants + EXPERIMENT[end:]
    file = write_experiment(tmp_path, text.replace("max_tokens: 8", "max_tokens: 24"))
    run = tmp_path / "runs" / "tiny"
    process = start("run", str(file), cwd=tmp_path)
    output, _ = process.communicate(timeout=1400)
    assert process.returncode == 0, output
    summary = msgspec.json.decode((run / "summary.json").read_bytes(), type=Summary)
    assert [variant.variant for variant in summary.variants] == [
        "base",
        "first",
        "pruned",
        "student",
    ]
    assert all(
        stage.failures == {} and stage.succeeded == stage.planned
        for v in summary.variants
        for stage in v.stages
    )
    size = {v.variant: v.metrics["size_bytes"].value or 0 for v in summary.variants}
    assert size["pruned"] == size["student"] < size["base"] < size["first"]
    assert "answers of first are whole, and taught to student" in output


def wait_for(condition: object, process: subprocess.Popen[str], seconds: float = 420) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(process.communicate()[0])
        time.sleep(0.2)


def check_journals(run: Path) -> None:
    """Each variant has every block, a record a request; paired blocks share prompts and times."""
    for stage, planned in (("rate-10", None), ("concurrency-3", 9), ("probe-greeting", 4)):
        for block in range(1, 2 if stage.startswith("probe") else 3):
            prompt_ids = set()
            for variant in ("base", "tuned", "int8"):
                lines = (
                    (run / "load" / variant / stage / f"block-{block:02d}.jsonl")
                    .read_bytes()
                    .splitlines()
                )
                header = msgspec.json.decode(lines[0], type=JournalHeader)
                end = msgspec.json.decode(lines[-1], type=JournalEnd)
                records = [msgspec.json.decode(line, type=RequestRecord) for line in lines[1:-1]]
                assert (header.variant, header.stage, header.block, end.end) == (
                    variant,
                    stage,
                    block,
                    "complete",
                )
                assert all(
                    r.failure is None and r.input_tokens and r.output_tokens for r in records
                )
                if planned is None:
                    assert len(records) == header.planned
                    prompt_ids.add(tuple(sorted((r.scheduled_ns, r.prompt_id) for r in records)))
                else:
                    assert len(records) >= planned
            assert len(prompt_ids) <= 1


def check_results(run: Path, output: str) -> None:
    summary = msgspec.json.decode((run / "summary.json").read_bytes(), type=Summary)
    verdicts = msgspec.json.decode((run / "verdict.json").read_bytes(), type=Verdicts)
    assert [v.variant for v in summary.variants] == ["base", "tuned", "int8"]
    base, tuned, int8 = summary.variants
    assert {stage.stage for stage in base.stages} == {"rate-10", "concurrency-3"}
    assert all(
        stage.failures == {} and stage.succeeded == stage.planned
        for v in summary.variants
        for stage in v.stages
    )
    check_where_time_goes(summary)
    size = {v.variant: v.metrics["size_bytes"].value for v in summary.variants}
    assert size["int8"] < size["base"] < size["tuned"]
    inputs = {v.variant: v.stages[0].metrics["input_tokens_mean"].value for v in summary.variants}
    assert inputs["tuned"] == inputs["int8"] < inputs["base"]
    assert set(base.probes) == set(tuned.probes) == set(int8.probes) == {"greeting"}
    assert {v.variant: v.decision for v in verdicts.variants}.keys() == {"base", "tuned", "int8"}
    for variant in verdicts.variants:
        assert variant.decision in output
    assert json.loads((run / "plan.json").read_text())["peak_rate"] == 50
    for name in (
        "report.html",
        "report.md",
        "junit.xml",
        "environment.json",
        "load/base/rate-10/requests.parquet",
    ):
        assert (run / name).stat().st_size > 0
    recipe = json.loads((run / "checkpoints" / "int8" / "recipe.json").read_text())
    assert "w8a8-int8" in json.dumps(recipe)
    adapter = json.loads((run / "adapters" / "finetune" / "adapter_config.json").read_text())
    assert str(run.parent.parent) not in json.dumps(adapter)
    assert str(run / "report.html") in output or "runs/tiny/report.html" in output


def check_where_time_goes(summary: Summary) -> None:
    """The engine record covers every answer, and its segments add up to the table's means."""
    for variant in summary.variants:
        for stage in variant.stages:
            waterfall = stage.waterfall
            assert waterfall is not None
            assert (waterfall.source, waterfall.n) == ("engine record", waterfall.succeeded)
            assert "queued" in waterfall.segments and "prefill" in waterfall.segments
            means = [segment.mean.value or 0 for segment in waterfall.segments.values()]
            assert sum(means) == pytest.approx(waterfall.total.value, abs=1e-3)
            difference = stage.waterfall_difference
            assert (difference is None) == (variant.variant == summary.baseline)
            if difference is not None:
                parts = [each.value or 0 for each in difference.segments.values()]
                table = stage.differences["latency_mean"].absolute.value
                assert sum(parts) + difference.residual == pytest.approx(table, abs=1e-3)


def check_served_again(run: Path, cwd: Path) -> None:
    """`dyno serve RUN`: the run's own checkpoint, nothing made anew, until Ctrl-C."""
    serving = start("serve", str(run), "--variant", "int8", cwd=cwd)
    assert serving.stdout is not None
    line = next((line for line in serving.stdout if line.strip().startswith("curl")), "")
    family = psutil.Process(serving.pid).children(recursive=True)
    answer = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert '"model":"int8"' in answer.stdout, line + answer.stderr
    serving.send_signal(signal.SIGINT)
    serving.communicate(timeout=60)
    assert serving.returncode == 0
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert not run.with_name("tiny-2").exists()


def check_rebuilt_byte_for_byte(run: Path, cwd: Path) -> None:
    outputs = ("summary.json", "verdict.json", "plan.json", "report.html", "report.md", "junit.xml")
    before = {name: (run / name).read_bytes() for name in outputs}
    again = subprocess.run(
        [sys.executable, "-m", "dyno.cli", "report", str(run)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert {name: (run / name).read_bytes() for name in outputs} == before
