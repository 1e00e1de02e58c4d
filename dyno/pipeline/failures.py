"""Which variants of a run failed, and why: `failures.json`, until they are measured to the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from foundation.errors import SystemFailed
from foundation.files.atomic_write import write_whole
from foundation.progress import Progress
from foundation.run.journal import UNREADABLE, Damage, is_whole
from foundation.run.json_files import read_json
from foundation.run.layout import RunDirectory
from foundation.run.records import RequestRecord

FAILURES = "failures.json"
# What so many requests at a block's end came to tells whether its server was still there.
_LAST = 4
_TAIL_BYTES = 1 << 18


def read_failures(run: RunDirectory, variants: Iterable[str]) -> dict[str, str]:
    """What failed, in a sentence, by variant. A file that can't be read leaves it open for each of the `variants`."""
    failures = read_json(run.path, FAILURES, dict[str, str])
    if isinstance(failures, Damage):
        return dict.fromkeys(variants, f"{failures}: whether its server failed is not known")
    return failures or {}


def fail(
    run: RunDirectory, failures: Mapping[str, SystemFailed], progress: Progress, where: str = ""
) -> None:
    """Write down and say that the servers of some variants failed; `where`: the block it was in."""
    if not failures:
        return
    said = {
        name: f"{failure}{f' (in {where})' if where else ''}" for name, failure in failures.items()
    }
    _write(run, read_failures(run, ()) | said)
    for failure in dict.fromkeys(failures.values()):
        named = [name for name, each in failures.items() if each is failure]
        progress.log(f"error: {said[named[0]]}")
        for line in failure.detail.splitlines():
            if line not in str(failure):
                progress.log(f"  {line}")
    progress.log(
        f"{', '.join(failures)}: not measured further; dyno run --resume {run.path} tries again"
    )


def forget_failures(run: RunDirectory, variants: Iterable[str]) -> None:
    """These variants were measured to the end, whatever failed before."""
    if (run.path / FAILURES).exists():
        gone = set(variants)
        _write(run, {name: why for name, why in read_failures(run, ()).items() if name not in gone})


def _write(run: RunDirectory, failures: Mapping[str, str]) -> None:
    """No file where nothing failed: the run is then like one in which nothing ever did."""
    file = run.path / FAILURES
    if failures:
        write_whole(file, msgspec.json.format(msgspec.json.encode(failures), indent=2) + b"\n")
    else:
        file.unlink(missing_ok=True)


def put_aside(journal: Path) -> None:
    """Keep a journal that is not whole out of the analysis's sight."""
    if journal.exists():
        journal.rename(journal.with_suffix(".jsonl.cut"))


def ends_in_silence(journal: Path) -> bool:
    """Whether the last requests of a journal all missed a deadline."""
    last = _last_failures(journal)
    return bool(last) and all(failure.startswith("timeout_") for failure in last)


def put_aside_last(run: RunDirectory, variant: str) -> None:
    """Put the variant's latest journal aside where its last requests failed: its server may have died before it was whole."""
    journals = sorted(
        run.path.glob(f"load/{variant}/*/block-*.jsonl"), key=lambda file: file.stat().st_mtime_ns
    )
    if journals and is_whole(journals[-1]) and any(_last_failures(journals[-1])):
        put_aside(journals[-1])


def _last_failures(journal: Path) -> list[str]:
    """The classes of failure of the last requests, "" for those that ended well; none where they can't be read."""
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()[1:-1][
            -_LAST:
        ]  # without the header, or half a line, and the end
    try:
        return [msgspec.json.decode(line, type=RequestRecord).failure or "" for line in lines]
    except UNREADABLE:
        return []
