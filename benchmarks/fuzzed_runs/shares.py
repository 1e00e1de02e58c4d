"""A run as several hosts would have sent it, in parts, and what `dyno merge` makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.fuzzed_runs.facts import SEARCH, is_record
from benchmarks.fuzzed_runs.files import Json
from dyno.experiment.loading import load_experiment
from dyno.pipeline.merging import merge_runs
from dyno.pipeline.part_runs import read_parts
from foundation.run.layout import RunDirectory

SHARED = ("experiment.yaml", "variants.json", "environment.json", "prompts.jsonl", "traffic.jsonl")
Spoil = Callable[[int, list[Json]], list[Json]]
"""Changes the lines (header, records, end) of a block of a part, by the part's number."""


def as_they_are(share: int, lines: list[Json]) -> list[Json]:
    """Leaves a part as it is."""
    return lines


def is_whole(run: Path) -> bool:
    """Whether no journal of a run is damaged."""
    files = sorted(run.glob("load/*/*/block-*.jsonl"))
    return bool(files) and all(map(_is_whole, files))


def _is_whole(file: Path) -> bool:
    try:
        lines = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
    except ValueError:
        return False
    ids = [line.get("id") for line in lines[1:-1] if is_record(line)]
    return (
        len(lines) > 2
        and "window_start_ns" in lines[0]
        and lines[-1].get("end") == "complete"
        and len(set(ids)) == len(lines) - 2
    )


def journals(run: Path) -> Iterator[tuple[Path, list[Json]]]:
    """The journals of a whole run by their place in it, less those of a search."""
    for file in sorted(run.glob("load/*/*/block-*.jsonl")):
        if not SEARCH.fullmatch(file.parts[-2]):
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            yield file.relative_to(run), lines


def write_parts(run: Path, folder: Path, of: int, spoil: Spoil = as_they_are) -> list[Path]:
    """Divides a whole run among `of` hosts: each sends every `of`-th request."""
    parts = [folder / f"part-{share}" for share in range(1, of + 1)]
    for share, part in enumerate(parts, start=1):
        part.mkdir(parents=True)
        for name in SHARED:
            if (run / name).is_file():
                (part / name).write_bytes((run / name).read_bytes())
        told = {
            "share": share,
            "of": of,
            "start_at": "2026-12-01T10:00:00Z",
            "gap_s": 10.0,
            "tunedyno": "1",
            "python": "3.11.9",
            "clock_bound_ns": 1000 * share,
        }
        (part / "part.json").write_text(json.dumps(told))
        for place, (header, *records, end) in journals(run):
            own = [record for record in records if record["id"] % of == share - 1]
            head = header | {"machines": 1, "clock_bound_ns": 1000 * share}
            lines = spoil(share, [head, *own, end])
            (part / place).parent.mkdir(parents=True, exist_ok=True)
            (part / place).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return parts


def merged(parts: list[Path], run: Path, *, partial: bool = False) -> list[str]:
    """Merges parts into a new run, as `dyno merge` does; returns what is said to be lost."""
    run.mkdir(parents=True)
    read = read_parts(parts, partial=partial)
    lost = merge_runs(read, RunDirectory(run))
    if (parts[0] / "traffic.jsonl").is_file():
        (run / "traffic.jsonl").write_bytes((parts[0] / "traffic.jsonl").read_bytes())
    load_experiment(run / "experiment.yaml")
    return lost
