"""Makes one run of the parts of a load that several hosts sent. The parts stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import msgspec

from dyno.pipeline.environment import note_requests
from dyno.pipeline.failures import read_failures
from dyno.pipeline.part_runs import PartRun, PartRuns
from foundation.run.ceiling import Ceiling, slowest
from foundation.run.journal import Journal, header_in, read_journal
from foundation.run.json_files import read_json, write_json
from foundation.run.layout import ARTIFACTS_FILE, CALIBRATION_FILE, RunDirectory, keep_private
from foundation.run.records import JournalHeader
from loadgen.schedule.arrivals import WorkerShare
from loadgen.sending.journal_parts import join
from results.measures.doubt import some

_SHARED = ("experiment.yaml", "environment.json", "variants.json", "prompts.jsonl")
_IDENTITIES = ("prompts.identity.json", ARTIFACTS_FILE)


def merge_runs(parts: PartRuns, run: RunDirectory) -> list[str]:
    """Writes the files of the run that all parts are together, up to its journals.

    Returns what is lost, a sentence each; the run's environment keeps them too.
    """
    if any(not part.run.path.stat().st_mode & 0o077 for part in parts.parts):
        keep_private(run.path)
    leader = max(parts.parts, key=lambda part: len(part.journals))
    _copy(leader.run, run, with_telemetry=_has_all(leader, parts.parts))
    _write_ceiling(parts.parts, run)
    _write_failures(parts, run)
    ordered = [leader, *(part for part in parts.parts if part is not leader)]
    workload = parts.experiment.workload
    numbers = range(1, workload.blocks + 1)
    lost: dict[str, list[str]] = {}
    for variant, stage, number in product(parts.experiment.variants, workload.stages, numbers):
        place = (variant.name, stage.label, number)
        lost.setdefault(variant.name, []).extend(_merge_block(ordered, parts.of, run, place))
    note_requests(run.environment, lost)
    return [sentence for sentences in lost.values() for sentence in sentences]


def merged_header(headers: Sequence[JournalHeader], of: int) -> JournalHeader:
    """The header of a block of `of` parts from those that are there; the first one's clock.

    Each bound is of one host against the time of day, so two hosts may lie both bounds apart.
    """
    known = [header.clock_bound_ns for header in headers if header.clock_bound_ns is not None]
    is_known = len(known) == len(headers) and of > 1
    return msgspec.structs.replace(
        headers[0],
        machines=of,
        workers=sum(header.workers for header in headers),
        clock_bound_ns=sum(sorted(known)[-2:]) if is_known else None,
    )


def _merge_block(
    parts: Sequence[PartRun], of: int, run: RunDirectory, place: tuple[str, str, int]
) -> list[str]:
    """Writes one journal from those of the parts, and returns what is lost, a sentence a part.

    `place`: variant, stage and number of the block. The first part's clock becomes the block's.
    """
    files = {part.record.share: part.run.journal(*place) for part in parts}
    headers = {n: header for n, file in files.items() if (header := header_in(file)) is not None}
    words = f"block {place[2]} of {place[1]}"
    if not headers:
        return [f"{words} is lost: no part has a journal of it"]
    journal, header = run.journal(*place), merged_header(list(headers.values()), of)
    journal.parent.mkdir(parents=True, exist_ok=True)
    end = join([files[n] for n in headers], journal, header, of)
    if end is not None and end.end == "complete":
        return []
    folders = {part.record.share: part.words for part in parts}
    return [
        f"{folders.get(n, f'part {n} of {of} (missing)')}: {lost}"
        for n in range(1, of + 1)
        if (lost := _lost(journal, header, WorkerShare(n - 1, of), files.get(n), words))
    ]


def _lost(
    journal: Path, header: JournalHeader, share: WorkerShare, file: Path | None, words: str
) -> str:
    """What a merged journal lacks of one part, whose own is `file`; empty for nothing."""
    merged = read_journal(journal)
    assert isinstance(merged, Journal)
    if header.planned is not None:
        planned = share.of(header.planned)
        missing = len(set(planned).difference(merged.requests.id.tolist()))
        if missing:
            own = some(len(planned), "planned request")
            return f"{missing} of its {own} of {words} left no record"
    part = None if file is None else read_journal(file)
    ended = isinstance(part, Journal) and part.end is not None and part.end.end == "complete"
    return "" if ended else f"it did not send {words} to its end"


def _has_all(leader: PartRun, parts: Sequence[PartRun]) -> bool:
    """Whether a part has every block that any part has, so that its clock is every block's."""
    names = [{file.relative_to(part.run.path) for file in part.journals} for part in parts]
    own = {file.relative_to(leader.run.path) for file in leader.journals}
    return set().union(*names) == own


def _copy(part: RunDirectory, run: RunDirectory, *, with_telemetry: bool) -> None:
    """Copies what all parts have alike, and the servers' telemetry on the clock of this part."""
    for name in (*_SHARED, *_IDENTITIES):
        if (part.path / name).is_file():
            shutil.copyfile(part.path / name, run.path / name)
    if with_telemetry and part.telemetry.is_dir():
        shutil.copytree(part.telemetry, run.telemetry, copy_function=shutil.copyfile)


def _write_ceiling(parts: Sequence[PartRun], run: RunDirectory) -> None:
    """The slowest host's ceiling, number by number, where each was calibrated."""
    read = [read_json(part.run.path, CALIBRATION_FILE, Ceiling) for part in parts]
    ceiling = slowest([each if isinstance(each, Ceiling) else None for each in read])
    if ceiling is not None:
        write_json(ceiling, run.calibration)


def _write_failures(parts: PartRuns, run: RunDirectory) -> None:
    """The failures of servers that any host saw."""
    names = [variant.name for variant in parts.experiment.variants]
    failures: Mapping[str, str] = {
        name: f"{why} ({part.words})"
        for part in parts.parts
        for name, why in read_failures(part.run, names).items()
    }
    if failures:
        write_json(failures, run.failures)
