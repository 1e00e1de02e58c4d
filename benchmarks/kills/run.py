"""`python -m benchmarks.kills.run [MOMENTS] [SEED]`: random kills of a run with vLLM.

Each kill is a run of its own with a tiny model. One of its processes gets SIGKILL; the run is left
to end, examined, resumed and compared with an undisturbed run. Prints a table and exits 1 if a
line fails. A kill takes two to four minutes on two cores.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kills.rig import VICTIMS, Watched, differences, lost_s, outcome

MOST_LOST_S = 1.0
LONGEST_S = 1800.0
EXPERIMENT = """\
name: kills
model: base-model
data: {train: train.jsonl, eval: eval.jsonl}
finetune: {rank: 4, epochs: 1, batch_size: 8}
variants: [{name: base}, {name: merged, merge: finetune}]
baseline: base
serve: {device: cpu, enforce_eager: true, max_model_len: 512, kv_cache: 64MiB}
workload:
  stages: [{concurrency: 3, requests: 60, warmup: 0s}]
  blocks: 5
  sampling: {max_tokens: 16}
slo: {latency_p50: 60s, error_rate: 50%}
"""


@dataclass(frozen=True)
class Kill:
    """A line of the table. `lost_s`: None if no block was under way; `code`: the killed run's."""

    victim: str
    at_s: float
    phase: str
    code: int
    lost_s: float | None
    left: list[str]
    resumed: int
    left_then: list[str]
    differs: list[str]

    @property
    def good(self) -> bool:
        """True if the kill left nothing behind and the run became whole."""
        lost = self.lost_s is not None and self.lost_s > MOST_LOST_S
        return not (lost or self.left or self.resumed or self.left_then or self.differs)

    def __str__(self) -> str:
        lost = "-" if self.lost_s is None else f"{self.lost_s:.2f} s"
        left = "; ".join([*self.left, *self.left_then]) or "nothing"
        same = "; ".join(self.differs) or "the same"
        begun = f"{self.victim:10}  {self.at_s:6.1f} s  {self.phase:34}"
        return f"{begun}  {self.code:4}  {lost:>7}  {left:20}  {self.resumed:4}  {same}"


def write_experiment(folder: Path) -> None:
    """Writes an experiment with a tiny model."""
    from tests.tiny_model import build_tiny_model

    build_tiny_model(folder / "base-model")
    rows = [
        json.dumps({"prompt": f"Sort: {n}", "completion": "odd" if n % 2 else "even"}) + "\n"
        for n in range(150)
    ]
    (folder / "train.jsonl").write_text("".join(rows[:90]), encoding="utf-8")
    (folder / "eval.jsonl").write_text("".join(rows[90:]), encoding="utf-8")
    (folder / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")


def reference(folder: Path, environment: Mapping[str, str]) -> tuple[dict[str, object], float]:
    """The outcome of a run that nothing happens to, and how long it takes."""
    with watched(folder, environment) as run:
        run.start("experiment.yaml")
        if code := run.wait(LONGEST_S):
            sys.exit(f"the run that nothing happens to ended with {code}: {run.last_line()}")
        return outcome(folder / "runs" / "kills"), time.monotonic() - run.began


@contextmanager
def watched(folder: Path, environment: Mapping[str, str]) -> Iterator[Watched]:
    """Temporary files in a folder of their own, whose path is short enough for sockets."""
    temporary = Path(tempfile.mkdtemp(prefix="k", dir="/tmp"))
    run = Watched(folder, temporary, environment)
    try:
        yield run
    finally:
        run.end()
        shutil.rmtree(temporary)


def kill_once(
    folder: Path,
    victim: str,
    at_s: float,
    usual: Mapping[str, object],
    environment: Mapping[str, str],
    rng: random.Random,
    begun: Callable[[Path], bool] = lambda run: True,
) -> Kill:
    """Kills a process of a kind at a moment, or later once one exists and `begun` is true."""
    out = folder / "runs" / "kills"
    with watched(folder, environment) as run:
        run.start("experiment.yaml")
        pick = None
        while run.process.poll() is None and pick is None:
            if (
                time.monotonic() - run.began >= at_s
                and begun(out)
                and (processes := run.look()[victim])
            ):
                pick = rng.choice(processes)
            time.sleep(0.02)
        if pick is None:
            sys.exit(f"the run ended before its {victim} could be killed: {run.last_line()}")
        run.look()
        phase, at_s, killed_at = run.last_line(), time.monotonic() - run.began, time.time()
        pick.kill()
        if victim == "dyno":
            run.process.wait()
        lost = lost_s(out, killed_at) if victim == "dyno" else None
        code = run.wait(LONGEST_S)
        left = run.left(swept_later=victim == "dyno")
        run.start(
            *(
                ("--resume", str(out))
                if (out / "experiment.yaml").exists()
                else ("experiment.yaml",)
            )
        )
        resumed = run.wait(LONGEST_S)
        differs = differences(outcome(out), usual) if resumed == 0 else ["not resumed"]
        return Kill(victim, at_s, phase, code, lost, left, resumed, run.left(), differs)


def main(moments: int, seed: int) -> int:
    """Kills, resumes and prints a table; returns the exit code."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        source.mkdir()
        write_experiment(source)
        environment = {"OMP_NUM_THREADS": "1", "TUNEDYNO_CACHE": str(Path(temporary) / "cache")}
        usual, takes_s = reference(_copy(source), environment)
        print(f"nothing happens: {takes_s:.0f} s, {usual}", flush=True)
        good = True
        for number in range(moments):
            victim, at_s = VICTIMS[number % len(VICTIMS)], rng.uniform(0, 0.95 * takes_s)
            folder = _copy(source)
            kill = kill_once(folder, victim, at_s, usual, environment, rng)
            print(kill, flush=True)
            good &= kill.good
            if kill.good:
                shutil.rmtree(folder)
            else:
                copy = tempfile.mkdtemp(prefix="kill-")
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                print(f"    see {copy}", flush=True)
    return 0 if good else 1


def _copy(source: Path) -> Path:
    folder = Path(tempfile.mkdtemp(dir=source.parent))
    return Path(shutil.copytree(source, folder, dirs_exist_ok=True))


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(arguments + [20, 0][len(arguments) :])))
