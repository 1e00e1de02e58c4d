"""`make bench-finetune`: tokens/s and held-out loss of tunedyno, SFTTrainer and the plain Trainer.

Two kinds of data come from the demo's. `short`: long prompts with answers of one word. `chat`:
short prompts (the beginning of a story) with long answers (its end), packed. The arms take turns in
another order each round, so that drift of the machine affects all alike; each round has its own
seed. Exits 1 if tunedyno misses its goal for speed, or loses more held-out loss than rounds differ
by.
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
from typing import Any

from benchmarks.finetune.arm import ARMS, Score
from dyno.experiment.bundled import bundled_file, bundled_model
from dyno.experiment.examples import example
from dyno.experiment.loading import load_experiment
from foundation.data.examples import read_examples
from foundation.progress import Silent

GOALS = {"short": 1.3, "chat": 1.0}
OURS, *OTHERS = ARMS
_BEGINNING = 12
"""Words of a story that its question holds in the kind `chat`."""


def main() -> int:
    """Runs all rounds and prints a table; returns the exit code."""
    args = _arguments()
    experiment = load_experiment(example("news-topics"))
    assert experiment.finetune is not None
    model = args.model or bundled_model("smollm2-135m-instruct", Silent()).path
    print(
        f"{os.cpu_count()} cores, {args.examples} examples, load average {os.getloadavg()[0]:.1f}"
    )
    failed = False
    for kind in args.kind or GOALS:
        with tempfile.TemporaryDirectory() as folder:
            settings: dict[str, Any] = {
                "id": experiment.model,
                "model": str(model),
                "examples": args.examples,
                "prompt": experiment.prompts[experiment.finetune.prompt].user
                if experiment.finetune.prompt
                else None,
                "train": str(bundled_file("news-topics/train.jsonl", Silent())),
                "heldout": str(bundled_file("news-topics/heldout.jsonl", Silent())),
            }
            recipe = experiment.finetune.model_copy(
                update={"batch_size": args.batch_size, "limit": None}
            )
            if kind == "chat":
                recipe = recipe.model_copy(
                    update={"packing": True, "max_length": args.row_length, "batch_size": args.rows}
                )
                settings |= {"prompt": None, **_chat(settings, Path(folder))}
            scores = _rounds(kind, args.rounds, settings, recipe)
        print(
            f"\n{kind}: {recipe.batch_size} {'packed rows' if recipe.packing else 'examples'} a "
            f"step\n\n{table(scores)}\n"
        )
        failed |= verdict(kind, scores)
    return int(failed)


def _rounds(kind: str, rounds: int, settings: dict[str, Any], recipe: Any) -> list[Score]:
    scores: list[Score] = []
    arms = list(ARMS)
    for number in range(rounds):
        turned = arms[number % len(arms) :] + arms[: number % len(arms)]
        for arm in turned:
            with tempfile.TemporaryDirectory() as out:
                config = recipe.model_copy(update={"seed": number}).model_dump()
                scores.append(_run(arm, {**settings, "config": config, "out": out}))
            result = (
                f"{scores[-1].tokens_per_second:,.0f} tokens/s, loss {scores[-1].heldout_loss:.3f}"
            )
            print(f"{kind}, round {number + 1}, {arm}: {result}", flush=True)
    return scores


def _chat(settings: dict[str, Any], folder: Path) -> dict[str, str]:
    """The same stories with their ends as long answers; one of those that begin alike."""
    questions: set[str] = set()
    files = {}
    for split in ("heldout", "train"):
        lines = []
        for each in read_examples(Path(settings[split])):
            words = each.fields["input"].split()
            question = "Go on with this news story: " + " ".join(words[:_BEGINNING])
            if len(words) > 2 * _BEGINNING and question.lower() not in questions:
                questions.add(question.lower())
                lines.append(
                    json.dumps({"prompt": question, "completion": " ".join(words[_BEGINNING:])})
                    + "\n"
                )
        (folder / f"{split}.jsonl").write_text("".join(lines))
        files[split] = str(folder / f"{split}.jsonl")
    return files


def table(scores: list[Score]) -> str:
    """Markdown: the median of each arm's runs, and every run's speed and loss."""
    lines = [
        "| | tokens/s, median | runs | held-out loss, mean | runs | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        runs = _of(arm, scores)
        rates, losses = [s.tokens_per_second for s in runs], [s.heldout_loss for s in runs]
        speed = f"{statistics.median(rates):,.0f} | {', '.join(f'{r:,.0f}' for r in rates)}"
        loss = f"{statistics.mean(losses):.3f} | {', '.join(f'{x:.3f}' for x in losses)}"
        lines.append(f"| {arm} | {speed} | {loss} | {max(s.peak_gib for s in runs):.1f} GiB |")
    return "\n".join(lines)


def verdict(kind: str, scores: list[Score]) -> bool:
    """Print how ours compares with each of the others; whether a goal was missed."""
    ours, missed = _of(OURS, scores), False
    for other in OTHERS:
        theirs = _of(other, scores)
        ratio = statistics.median(
            a.tokens_per_second / b.tokens_per_second for a, b in zip(ours, theirs, strict=True)
        )
        losses = [s.heldout_loss for s in theirs]
        # Two seeds of one arm differ by this; rounding and the order of batches alone make 0.05.
        noise = max(0.05, max(losses) - min(losses))
        worse = statistics.mean(s.heldout_loss for s in ours) - statistics.mean(losses)
        passed = ratio >= GOALS[kind] and worse <= noise
        missed |= not passed
        goal = "met" if passed else "MISSED"
        speed = f"{kind}: {ratio:.2f} times as fast as {other} (goal {GOALS[kind]})"
        print(f"{speed}; held-out loss {worse:+.3f} (noise {noise:.3f}): {goal}")
    return missed


def _of(arm: str, scores: list[Score]) -> list[Score]:
    return [s for s in scores if s.arm == arm]


def _run(arm: str, settings: dict[str, object]) -> Score:
    command = [sys.executable, "-m", "benchmarks.finetune.arm", arm, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arm} failed:\n{done.stderr[-3000:]}")
    return Score(**json.loads(done.stdout.splitlines()[-1]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Training speed against SFTTrainer's own defaults and the plain Trainer."
    )
    parser.add_argument(
        "--kind", action="append", choices=GOALS, help="only this kind of data (repeatable)"
    )
    parser.add_argument("--model", type=Path, help="model folder (default: the demo's)")
    parser.add_argument("--examples", type=int, default=160, help="how many to learn in each run")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="of all arms; 8 is SFTTrainer's default"
    )
    parser.add_argument("--rows", type=int, default=4, help="packed rows a step, of the kind chat")
    parser.add_argument(
        "--row-length", type=int, default=512, help="tokens a packed row, of the kind chat"
    )
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
