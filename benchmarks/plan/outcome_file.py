"""The outcomes of plants, a line each in a file, so that a long run can be stopped and continued.

The file bears the identity of the sources that the outcomes are of: after a change of the code
another one begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import msgspec

from benchmarks.plan.plant_outcome import PlantOutcome, plant_outcome
from benchmarks.plan.plants import KINDS
from foundation.files.atomic_write import write_whole

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = (
    "foundation/run", "loadgen/emulator", "results/capacity/demand", "results/capacity/model",
    "results/capacity/search", "results/capacity/simulation", "results/config.py",
    "results/measures", "results/metrics.py", "results/statistics", "benchmarks/plan",
)  # fmt: skip
_NOT_JUDGED = {
    "run.py", "outcome_file.py", "closed_forms.py", "scale.py", "held_out.py", "structure.py",
    "structure_real.py",
}  # fmt: skip


def outcomes(folder: Path, count: int, jobs: int) -> Iterator[PlantOutcome]:
    """The outcomes of `count` plants of each kind: those in the file, then the others as they end.

    `jobs` processes work at once.
    """
    file = folder / f"{code_identity()}.jsonl"
    known = list(_stored(file))
    plants = [(kind, number) for number in range(count) for kind in KINDS]
    stored = {(each.kind, each.number) for each in known}
    yield from (each for each in known if (each.kind, each.number) in plants)
    with ProcessPoolExecutor(jobs) as pool:
        missing = [plant for plant in plants if plant not in stored]
        for future in as_completed([pool.submit(plant_outcome, *plant) for plant in missing]):
            known.append(future.result())
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(file, msgspec.json.Encoder().encode_lines(known))
            yield known[-1]


def code_identity() -> str:
    """A hash of the sources whose behaviour an outcome shows."""
    digest = hashlib.sha256()
    for file in sorted(file for source in _SOURCES for file in _modules(_ROOT / source)):
        if file.name in _NOT_JUDGED:
            continue
        digest.update(f"{file.relative_to(_ROOT)}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _modules(source: Path) -> Iterable[Path]:
    return source.rglob("*.py") if source.is_dir() else [source]


def _stored(file: Path) -> Sequence[PlantOutcome]:
    if not file.exists():
        return []
    return msgspec.json.Decoder(PlantOutcome).decode_lines(file.read_bytes())
