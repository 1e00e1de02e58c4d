"""What must hold of a run that several hosts sent: against the whole run that was divided."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.fuzzed_runs.files import Json, read_json
from benchmarks.fuzzed_runs.relations import decided, numbers_of, same
from benchmarks.fuzzed_runs.shares import as_they_are, merged, write_parts
from foundation.errors import BadInput

MOST = 4


def merged_again(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """The merge of all shares has the numbers of the whole run."""
    parts = write_parts(run, folder / "parts", int(rng.integers(2, MOST)))
    if lost := merged(parts, folder / "merged"):
        yield f"lost in a merge of whole parts: {lost}"
    yield from _same_numbers(run, decided(folder / "merged"))


def repeated_records(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """A record that a part holds twice counts once."""

    def spoil(share: int, lines: list[Json]) -> list[Json]:
        header, *own, end = lines
        twice = own[:1] if rng.random() < 0.5 else []
        return [header, *own, *twice, end]

    parts = write_parts(run, folder / "parts", int(rng.integers(2, MOST)), spoil)
    merged(parts, folder / "merged")
    yield from _same_numbers(run, decided(folder / "merged"))


def foreign_records(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """A part with a request of another part, or of another load, is refused."""
    of = int(rng.integers(2, MOST))
    is_planned = bool(rng.random() < 0.5)
    spoiled: list[int] = []

    def spoil(share: int, lines: list[Json]) -> list[Json]:
        header, *own, end = lines
        if spoiled or not own or header["concurrency"] is not None or header["planned"] < of:
            return lines
        number = share % of if is_planned else header["planned"] + own[0]["id"]
        spoiled.append(number)
        return [header, *own, own[0] | {"id": number}, end]

    prompts = (run / "prompts.jsonl").read_text()
    parts = write_parts(run, folder / "parts", of, spoil)
    if not spoiled or (not is_planned and '"after"' in prompts):
        return
    try:
        merged(parts, folder / "merged")
    except BadInput:
        return
    yield f"merges a part with request {spoiled[0]}, which is not of it"


def interrupted_part(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """Blocks in which a part stopped half-way are INVALID, and nothing is decided on them."""
    of = int(rng.integers(2, MOST))
    stopped = int(rng.integers(1, of + 1))
    cut_off = bool(rng.random() < 0.5)

    def spoil(share: int, lines: list[Json]) -> list[Json]:
        header, *own, end = lines
        if share != stopped:
            return lines
        kept = own[: len(own) // 2]
        middle = header["window_start_ns"] // 2 + end["window_end_ns"] // 2
        stop = end | {"end": "interrupted", "window_end_ns": middle}
        return [header, *kept, *([] if cut_off else [stop])]

    parts = write_parts(run, folder / "parts", of, spoil)
    if not merged(parts, folder / "merged"):
        yield f"part {stopped} of {of} stopped half-way, and nothing is said to be lost"
    yield from _undecided(decided(folder / "merged"))


def missing_part(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """Without one of the parts no block is whole."""
    of = int(rng.integers(2, MOST))
    parts = write_parts(run, folder / "parts", of, as_they_are)
    shutil.rmtree(parts.pop(int(rng.integers(of))))
    if not merged(parts, folder / "merged", partial=True):
        yield "a part is missing, and nothing is said to be lost"
    yield from _undecided(decided(folder / "merged"))


def _same_numbers(run: Path, other: Path) -> Iterator[str]:
    before, after = (numbers_of(read_json(each / "summary.json")) for each in (run, other))
    yield from same(before, after, "")


def _undecided(run: Path) -> Iterator[str]:
    summary, verdicts = read_json(run / "summary.json"), read_json(run / "verdict.json")
    for variant in summary["variants"]:
        for stage in variant["stages"]:
            if stage["validity"]["level"] != "INVALID":
                yield f"{variant['variant']}, {stage['stage']} is {stage['validity']}"
    if verdicts["recommended"] is not None:
        yield f"recommends {verdicts['recommended']}, INVALID: {verdicts['headline']}"
    decisions = {each["variant"]: each["decision"] for each in verdicts["variants"]}
    if set(decisions.values()) != {"INCONCLUSIVE"}:
        yield f"decides {decisions} on what is INVALID"
    if (run / "plan.json").is_file():
        plan = read_json(run / "plan.json")
        for variant in plan["variants"]:
            if variant["source"] == "measured":
                yield f"plans on what is INVALID: {variant['sentence']}"


PARTS = (merged_again, repeated_records, foreign_records, interrupted_part, missing_part)
