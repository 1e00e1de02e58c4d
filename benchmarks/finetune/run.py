"""`make bench-finetune`: tokens/s and held-out loss of our training and of SFTTrainer's defaults, on the demo's model and data.

Runs alternate (ours, theirs; theirs, ours; ...), so that drift of the machine hits both alike; each round has its own seed. Exit
code 1 where ours is not 1.3 times as fast, or its held-out loss is worse by more than rounds differ.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.finetune.arm import ARMS, Score
from dyno.assets import bundled_file, bundled_model
from dyno.examples import example
from dyno.experiment import load_experiment
from foundation.progress import Silent

GOAL = 1.3
OURS, THEIRS = ARMS


def main() -> int:
    args = _arguments()
    progress = Silent()
    experiment = load_experiment(example("news-topics"))
    assert experiment.finetune is not None
    model = args.model or bundled_model("smollm2-135m-instruct", progress).path
    settings = {
        "id": experiment.model,
        "model": str(model),
        "train": str(args.train or bundled_file("news-topics/train.jsonl", progress)),
        "heldout": str(args.heldout or bundled_file("news-topics/heldout.jsonl", progress)),
        "prompt": experiment.prompts[experiment.finetune.prompt].user if experiment.finetune.prompt else None,
        "examples": args.examples,
    }
    scores: list[Score] = []
    for number in range(args.rounds):
        recipe = experiment.finetune.model_copy(update={"batch_size": args.batch_size, "seed": number, "limit": None})
        for arm in (OURS, THEIRS) if number % 2 == 0 else (THEIRS, OURS):
            with tempfile.TemporaryDirectory() as out:
                scores.append(_run(arm, {**settings, "config": recipe.model_dump(), "out": out}))
            print(
                f"round {number + 1}, {arm}: {scores[-1].tokens_per_second:,.0f} tokens/s, loss {scores[-1].heldout_loss:.3f}",
                flush=True,
            )
    load = os.getloadavg()[0]
    print(f"\n{os.cpu_count()} cores, batch size {args.batch_size}, {args.examples} examples, load average {load:.1f}\n")
    print(table(scores))
    return verdict(scores)


def table(scores: list[Score]) -> str:
    """Markdown: the median of each arm's runs, and every run's speed and loss."""
    lines = ["| | tokens/s, median | runs | held-out loss, mean | runs | peak memory |", "|---|---|---|---|---|---|"]
    for arm in ARMS:
        runs = [s for s in scores if s.arm == arm]
        rates, losses = [s.tokens_per_second for s in runs], [s.heldout_loss for s in runs]
        speed = f"{statistics.median(rates):,.0f} | {', '.join(f'{r:,.0f}' for r in rates)}"
        loss = f"{statistics.mean(losses):.3f} | {', '.join(f'{x:.3f}' for x in losses)}"
        lines.append(f"| {arm} | {speed} | {loss} | {max(s.peak_gib for s in runs):.1f} GiB |")
    return "\n".join(lines)


def verdict(scores: list[Score]) -> int:
    ours, theirs = ([s for s in scores if s.arm == arm] for arm in ARMS)
    ratio = statistics.median(a.tokens_per_second / b.tokens_per_second for a, b in zip(ours, theirs, strict=True))
    losses = [s.heldout_loss for s in theirs]
    # What two seeds of the same arm differ by, and never less than 0.05 nats: rounding and the order of batches alone make that.
    noise = max(0.05, max(losses) - min(losses))
    worse = statistics.mean(s.heldout_loss for s in ours) - statistics.mean(losses)
    passed = ratio >= GOAL and worse <= noise
    told = "met" if passed else "MISSED"
    print(f"\n{ratio:.2f} times as fast (goal {GOAL}); held-out loss {worse:+.3f} (noise {noise:.3f}): {told}")
    return 0 if passed else 1


def _run(arm: str, settings: dict[str, object]) -> Score:
    command = [sys.executable, "-m", "benchmarks.finetune.arm", arm, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arm} failed:\n{done.stderr[-3000:]}")
    return Score(**json.loads(done.stdout.splitlines()[-1]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training speed against SFTTrainer's own defaults.")
    parser.add_argument("--model", type=Path, help="model folder (default: the demo's)")
    parser.add_argument("--train", type=Path, help="examples as JSON lines (default: the demo's)")
    parser.add_argument("--heldout", type=Path, help="held-out examples (default: the demo's)")
    parser.add_argument("--examples", type=int, default=160, help="how many to learn in each run")
    parser.add_argument("--batch-size", type=int, default=8, help="of both arms; 8 is SFTTrainer's default")
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
