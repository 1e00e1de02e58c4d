"""The parts of a load that several hosts sent, as `dyno merge` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.failures import read_failures
from foundation.errors import BadInput
from foundation.files.folder_lock import check_free
from foundation.path_fields import expanded
from foundation.run.journal import (
    Journal,
    header_in,
    journal_files,
    read_journal,
    read_prompts,
)
from foundation.run.json_files import read_json
from foundation.run.layout import VARIANTS, RunDirectory
from foundation.run.part import PART, PartRecord, read_part
from foundation.run.records import JournalHeader, VariantRecord
from results.comparison.stored_runs.settings import lines, setting_changes
from results.measures.doubt import some

# What differs between the parts of one block: a host's processes and its clock.
_OF_A_HOST = frozenset(
    {"workers", "receiver", "origin_monotonic_ns", "origin_unix_ns", "clock_bound_ns"}
)


@dataclass(frozen=True)
class PartRun:
    """The directory of one part, with its record and its experiment."""

    run: RunDirectory
    record: PartRecord
    experiment: Experiment

    @property
    def words(self) -> str:
        """ "part 3 of 8 (results/load-part-3-of-8)"."""
        return f"{self.record.words} ({self.run.path})"

    @property
    def journals(self) -> list[Path]:
        """Its journals, in the order of their names."""
        return journal_files(self.run.path / "load")


@dataclass(frozen=True)
class PartRuns:
    """The parts of one load by their number. `missing`: the numbers of parts that nobody has."""

    parts: Sequence[PartRun]
    missing: Sequence[int]

    @property
    def of(self) -> int:
        """Into how many parts the load was divided."""
        return self.parts[0].record.of

    @property
    def experiment(self) -> Experiment:
        """The experiment of all parts."""
        return self.parts[0].experiment


def check_sent_here(run: RunDirectory, experiment: Experiment) -> None:
    """Raises BadInput for a run that is put together from the parts of several hosts."""
    if experiment.workload.machines is not None:
        return
    for file in sorted(run.path.glob("load/*/*/block-*.jsonl")):
        header = header_in(file)
        if header is not None and header.machines > 1:
            raise BadInput(
                f"{run.path}: put together from the parts of {header.machines} hosts, so one host "
                "can't go on with it; send the load again, or merge its parts again"
            )


def read_parts(paths: Sequence[Path], *, partial: bool) -> PartRuns:
    """The parts of one load. `paths`: their folders, or folders of such folders.

    With `partial`, parts may be missing or empty. Raises BadInput for parts of several loads, for
    one that is there twice or missing, and for one that is still being sent.
    """
    parts = sorted(
        (_read(folder) for path in paths for folder in _folders(expanded(path))),
        key=lambda part: part.record.share,
    )
    for one, two in pairwise(parts):
        _check_together(one, two)
    _check_journals(parts)
    for part in parts:
        if not part.journals and not partial:
            failures = read_failures(part.run, ()).values()
            raise BadInput(
                f"{part.run.path}: no journal under load/ "
                f"({next(iter(failures), 'it sent nothing')}); accept what is lost with --partial"
            )
    if not (sent := [part for part in parts if part.journals]):
        raise BadInput(f"{parts[0].run.path}: no part sent anything")
    there = {part.record.share for part in sent}
    missing = [n for n in range(1, parts[0].record.of + 1) if n not in there]
    if missing and not partial:
        numbers = ", ".join(map(str, missing))
        raise BadInput(
            f"{', '.join(str(part.run.path) for part in parts)}: part {numbers} of "
            f"{parts[0].record.of} is missing; name it too, or accept what is lost with --partial"
        )
    return PartRuns(sent, missing)


def _folders(path: Path) -> list[Path]:
    """The folders of parts at a path: itself, or those in it."""
    if (path / PART).is_file():
        return [path]
    inside = sorted(each.parent for each in path.glob(f"*/{PART}"))
    if not inside:
        raise BadInput(f"{path}: no part of a load, it has no {PART}; dyno load --share sends one")
    return inside


def _read(folder: Path) -> PartRun:
    check_free(folder)
    run, record = RunDirectory(folder), read_part(folder)
    if not isinstance(read_json(folder, VARIANTS, list[VariantRecord]), list):
        raise BadInput(
            f"{run.variants}: can't be read; copy it from another part, where it is the same"
        )
    return PartRun(run, record, load_experiment(run.experiment))


def _check_together(one: PartRun, two: PartRun) -> None:
    """Raises BadInput for two parts that are not different parts of one load."""
    both = f"{one.run.path} and {two.run.path}"
    for name, words in (
        ("of", "parts"),
        ("start_at", "start"),
        ("gap_s", "gap in seconds"),
        ("tunedyno", "version of tunedyno"),
        ("python", "version of Python"),
    ):
        values = getattr(one.record, name), getattr(two.record, name)
        if values[0] != values[1]:
            raise BadInput(
                f"{both}: not of one load, their {words}: {values[0]} and {values[1]}; "
                "merge parts of one load"
            )
    if one.record.share == two.record.share:
        raise BadInput(f"{both}: both are {one.record.words}; name each part once")
    if changes := lines(setting_changes(_settings(one), _settings(two))):
        raise BadInput(f"{both}: not of one load, {changes[0]}; merge parts of one load")
    prompts = [part.run.prompts for part in (one, two)]
    if all(file.is_file() for file in prompts) and (
        prompts[0].read_bytes() != prompts[1].read_bytes()
    ):
        raise BadInput(f"{both}: not of one load, their {prompts[0].name} differ; send both again")


def _settings(part: PartRun) -> dict[str, Any]:
    """The settings of the experiment, less those whose contents the journals' identity holds."""
    settings = part.experiment.model_dump(
        mode="json", exclude={"data": True, "workload": {"dataset", "stages", "tokenizer"}}
    )
    settings["variants"] = {each.pop("name"): each for each in settings["variants"]}
    return settings


def _check_journals(parts: Sequence[PartRun]) -> None:
    """Raises BadInput for two parts whose journals of one block are of different loads.

    The same for a part whose journals hold requests of another.
    """
    first: dict[Path, tuple[PartRun, JournalHeader]] = {}
    for part in parts:
        prompts = read_prompts(part.run.path).values()
        has_turns = any(prompt.after is not None for prompt in prompts)
        for file in part.journals:
            if (header := header_in(file)) is None:
                continue
            place = file.relative_to(part.run.path)
            other, expected = first.setdefault(place, (part, header))
            for name in JournalHeader.__struct_fields__:
                values = getattr(expected, name), getattr(header, name)
                if name not in _OF_A_HOST and values[0] != values[1]:
                    raise BadInput(
                        f"{other.run.path} and {part.run.path}: not of one load, {name} in {place} "
                        f"is {values[0]} and {values[1]}; merge parts of one load"
                    )
            _check_own(part, file, header, has_turns=has_turns)


def _check_own(part: PartRun, file: Path, header: JournalHeader, *, has_turns: bool) -> None:
    """Raises BadInput for a part whose journal holds requests of another share.

    Only of an open loop is it known which arrivals are whose. Further turns of a session count on
    from its first one's number, in steps of all that are planned.
    """
    if header.planned is None or header.concurrency is not None:
        return
    journal = read_journal(file)
    assert isinstance(journal, Journal)
    ids, own = journal.requests.id, part.record.share - 1
    is_planned = (ids >= 0) & ((ids < header.planned) | has_turns)
    foreign = ~is_planned | (ids % max(header.planned, 1) % part.record.of != own)
    if foreign.any():
        place = file.relative_to(part.run.path)
        raise BadInput(
            f"{part.run.path}: {some(int(foreign.sum()), 'request')} in {place} not of "
            f"{part.record.words}, such as {ids[foreign][0]}; send that part again"
        )
