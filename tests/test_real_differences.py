"""The decision on a real system: the demo's model, trained, merged and served by vLLM.

Two servers of the same weights show no difference; the adapter and its own merge show one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from dyno.experiment.examples import example
from results.summary import Difference, Summary

SHOWN = ("latency_mean", "latency_p50", "latency_p95", "ttft_mean", "tpot_mean")
# Equal systems have one of the five p-values below this in at most one run of a hundred.
CHANCE = 0.002


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_same_weights_differ_in_nothing_and_an_adapter_is_slower_than_its_merge(
    tmp_path: Path,
) -> None:
    summary = run_of(tmp_path)
    merged, again, tuned = summary.variants
    same = {**again.stages[0].differences, "quality": again.differences["quality"]}
    slower = {**tuned.stages[0].differences, "quality": tuned.differences["quality"]}
    for name in (*SHOWN, "quality"):
        print(
            f"{name}: same weights {sentence_of(same[name])}; adapter {sentence_of(slower[name])}"
        )
    assert merged.stages[0].failures == again.stages[0].failures == tuned.stages[0].failures == {}
    for name in SHOWN:
        difference = same[name]
        assert difference.p is not None and difference.p > CHANCE
        assert slower[name].differs
        assert (slower[name].absolute.low or 0) > 0
    assert same["quality"].differs is not True
    assert slower["quality"].differs is not True


def run_of(folder: Path) -> Summary:
    """A closed loop: the adapter's server is several times slower than the merge's."""
    experiment = yaml.safe_load(example("news-topics").read_text())
    experiment["variants"] = [
        {"name": "merged", "prompt": "short", "merge": "finetune"},
        {"name": "merged-again", "prompt": "short", "merge": "finetune"},
        {"name": "tuned", "prompt": "short", "adapter": "finetune"},
    ]
    experiment["baseline"] = "merged"
    experiment["workload"] = {
        "stages": [{"concurrency": 2, "requests": 24, "warmup": "500ms"}],
        "blocks": 10,
        "sampling": {"max_tokens": 16},
    }
    del experiment["quality"]["probes"], experiment["plan"], experiment["prompts"]["long"]
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    done = subprocess.run(
        [sys.executable, "-m", "dyno.cli", "run", "experiment.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return msgspec.json.decode(
        (folder / "runs/news-topics/summary.json").read_bytes(), type=Summary
    )


def sentence_of(difference: Difference) -> str:
    if difference.absolute.value is None:
        return f"none ({difference.absolute.reason})"
    low, high = difference.absolute.low, difference.absolute.high
    return (
        f"{difference.absolute.value:+.4g} ({low:+.4g} to {high:+.4g}), p {difference.p}, "
        f"differs {difference.differs}"
    )
