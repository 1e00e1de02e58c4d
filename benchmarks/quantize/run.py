"""`make bench-quantize`: the in-process W8A8 writer against llm-compressor's one-shot.

Both round the same model to nearest, by turns (ours, theirs; theirs, ours; ...). Each runs in a
fresh process of its own environment. Time and memory are the whole process's, imports included.
Outputs are compared on held-out text. Exits 1 if ours takes more time or memory, or answers worse
beyond noise. The set-up of llm-compressor's environment is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from dyno.experiment.bundled import bundled_file, bundled_model
from foundation.data.examples import read_examples
from foundation.models.companions import copy_companions
from foundation.models.model import ModelRef
from foundation.progress import Silent
from foundation.run.recovery import Recovery
from quantize import measure_recovery
from quantize.llmcompressor import environment

OURS, THEIRS = "tunedyno", "llm-compressor one-shot"
_ONESHOT = Path(environment.__file__).with_name("oneshot.py")


@dataclass(frozen=True)
class Cost:
    """Time and peak memory of one process."""

    seconds: float
    peak_gib: float


def main() -> int:
    """Runs all rounds and prints a table; returns the exit code."""
    args = _arguments()
    model = args.model or bundled_model("smollm2-135m-instruct", Silent()).path
    heldout = read_examples(args.heldout or bundled_file("news-topics/heldout.jsonl", Silent()))
    interpreter = environment.python(Silent())
    costs: dict[str, list[Cost]] = {OURS: [], THEIRS: []}
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            OURS: _ours(model, Path(folder)),
            THEIRS: _theirs(interpreter, model, Path(folder)),
        }
        for number in range(args.rounds):
            for arm in (OURS, THEIRS) if number % 2 == 0 else (THEIRS, OURS):
                shutil.rmtree(_out(arm, Path(folder)), ignore_errors=True)
                _out(arm, Path(folder)).mkdir()
                costs[arm].append(cost := _measured(commands[arm], Path(folder) / "log"))
                print(
                    f"round {number + 1}, {arm}: {cost.seconds:.1f} s, {cost.peak_gib:.2f} GiB",
                    flush=True,
                )
        copy_companions(
            model, _out(THEIRS, Path(folder))
        )  # its script writes weights and their configuration alone
        source = ModelRef(model.name, None, model)
        outputs = {arm: ModelRef(arm, None, _out(arm, Path(folder))) for arm in costs}
        recoveries = {
            arm: measure_recovery(source, outputs[arm], heldout, None, Silent()) for arm in costs
        }
        between = measure_recovery(outputs[THEIRS], outputs[OURS], heldout, None, Silent())
    print(f"\n{os.cpu_count()} cores, {model.name}, load average {os.getloadavg()[0]:.1f}\n")
    print(table(costs, recoveries))
    print(
        f"\nours against theirs: top-1 agreement {between.all_text.top1_agreement:.2%}, "
        f"KL {between.all_text.kl_divergence:.5f}"
    )
    return verdict(costs, between)


def table(costs: dict[str, list[Cost]], recoveries: dict[str, Recovery]) -> str:
    """Markdown: medians, every run, and what was lost against the unquantized model."""
    lines = [
        "| | time, median | runs | peak memory, median | recovery | KL | top-1 agreement |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, runs in costs.items():
        seconds = [run.seconds for run in runs]
        lost = recoveries[arm]
        lines.append(
            f"| {arm} | {statistics.median(seconds):.1f} s | "
            f"{', '.join(f'{s:.1f}' for s in seconds)} "
            f"| {statistics.median(run.peak_gib for run in runs):.2f} GiB | "
            f"{lost.recovery.value:.2%} "
            f"| {lost.all_text.kl_divergence:.5f} | {lost.all_text.top1_agreement:.2%} |"
        )
    return "\n".join(lines)


def verdict(costs: dict[str, list[Cost]], between: Recovery) -> int:
    """`between`: our recovery from theirs; worse if its whole interval is below 100 %."""
    pairs = list(zip(costs[OURS], costs[THEIRS], strict=True))
    seconds = statistics.median(a.seconds / b.seconds for a, b in pairs)
    memory = statistics.median(a.peak_gib / b.peak_gib for a, b in pairs)
    worse = between.recovery.high is not None and between.recovery.high < 1
    passed = seconds <= 1 and memory <= 1 and not worse
    answers = "worse beyond noise" if worse else "the same within noise"
    goal = "met" if passed else "MISSED"
    print(
        f"{seconds:.2f} times the time, {memory:.2f} times the memory (goal 1.0), "
        f"answers {answers}: {goal}"
    )
    return 0 if passed else 1


def _ours(model: Path, folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.quantize.arm", str(model), str(_out(OURS, folder))]


def _theirs(interpreter: Path, model: Path, folder: Path) -> list[str]:
    request = {
        "model": str(model),
        "out": str(_out(THEIRS, folder)),
        "scheme": "W8A8",
        "algorithm": "rtn",
    }
    file = folder / "request.json"
    file.write_text(
        json.dumps({**request, "group_size": None, "ignore": ["lm_head"], "samples": []})
    )
    return [str(interpreter), "-I", str(_ONESHOT), str(file)]


def _out(arm: str, folder: Path) -> Path:
    return folder / arm.replace(" ", "-")


def _measured(command: list[str], log: Path) -> Cost:
    with log.open("w") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-3000:]}")
    return Cost(seconds, used.ru_maxrss / 2**20)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="The in-process W8A8 writer against llm-compressor's one-shot."
    )
    parser.add_argument("--model", type=Path, help="model folder (default: the demo's)")
    parser.add_argument(
        "--heldout", type=Path, help="held-out examples as JSON lines (default: the demo's)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
