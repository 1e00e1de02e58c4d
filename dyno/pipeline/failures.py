"""`failures.json`: the variants that failed, and why, until they are measured to the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from foundation.errors import SystemFailed
from foundation.files.atomic_write import write_whole
from foundation.progress import Progress
from foundation.run.journal import UNREADABLE, Damage, is_whole
from foundation.run.json_files import read_json
from foundation.run.layout import FAILURES_FILE, RunDirectory
from foundation.run.part import PART
from foundation.run.records import RequestRecord

# The last requests of a block, which show whether its server was still there.
_LAST = 4
_GONE = ("connect", "reset", "truncated")
_TAIL_BYTES = 1 << 18


def read_failures(run: RunDirectory, variants: Iterable[str]) -> dict[str, str]:
    """The failures, a sentence each, by variant.

    If the file is damaged, each of the `variants` may have failed.
    """
    failures = read_json(run.path, FAILURES_FILE, dict[str, str])
    if isinstance(failures, Damage):
        return dict.fromkeys(variants, f"{failures}: whether its server failed is not known")
    return failures or {}


def record_failures(
    run: RunDirectory, failures: Mapping[str, SystemFailed], progress: Progress, where: str = ""
) -> None:
    """Records and logs the failures of variants' servers. `where`: the block of the failure."""
    if not failures:
        return
    place = f" (in {where})" if where else ""
    sentences = {name: f"{failure}{place}" for name, failure in failures.items()}
    _write(run, read_failures(run, ()) | sentences)
    for failure in dict.fromkeys(failures.values()):
        progress.log(f"error: {failure}{place}")
        for line in failure.detail.splitlines():
            if line not in str(failure):
                progress.log(f"  {line}")
    is_part = (run.path / PART).is_file()
    later = "its part of the load is lost" if is_part else f"resuming {run.path} tries again"
    progress.log(f"{', '.join(failures)}: not measured further; {later}")


def forget_failures(run: RunDirectory, variants: Iterable[str]) -> None:
    """Removes the failures of variants that were measured to the end."""
    if run.failures.exists():
        failures, measured = read_failures(run, ()), set(variants)
        _write(run, {name: failures[name] for name in failures if name not in measured})


def _write(run: RunDirectory, failures: Mapping[str, str]) -> None:
    """Writes the failures; removes the file if there are none, as in a run without any."""
    file = run.failures
    if failures:
        write_whole(file, msgspec.json.format(msgspec.json.encode(failures), indent=2) + b"\n")
    else:
        file.unlink(missing_ok=True)


def put_aside(journal: Path) -> None:
    """Renames an incomplete journal, so that the analysis does not read it."""
    if journal.exists():
        journal.rename(journal.with_suffix(".jsonl.cut"))


def ends_without_server(journal: Path) -> bool:
    """Whether the last requests of a replica all failed as at a server that is gone or hangs."""
    return any(
        all(failure in _GONE or failure.startswith("timeout_") for failure in failures)
        for failures in _last_failures(journal)
    )


def put_aside_last(run: RunDirectory, variant: str) -> None:
    """Puts the variant's latest journal aside if its last requests failed.

    Its server may have died before the block ended.
    """
    journals = sorted(
        run.path.glob(f"load/{variant}/*/block-*.jsonl"), key=lambda file: file.stat().st_mtime_ns
    )
    if journals and is_whole(journals[-1]) and any(map(any, _last_failures(journals[-1]))):
        put_aside(journals[-1])


def _last_failures(journal: Path) -> list[list[str]]:
    """By replica, the failure class of each of its last requests, "" for success.

    Empty if unreadable. Requests that were not sent, since their block ended early, say nothing of
    the server.
    """
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    classes: dict[int | None, list[str]] = {}
    for line in reversed(lines[1:-1]):  # without the header, or half a line, and the end
        try:
            record = msgspec.json.decode(line, type=RequestRecord)
        except UNREADABLE:
            return []
        of_replica = classes.setdefault(record.replica, [])
        if record.failure != "cancelled" and len(of_replica) < _LAST:
            of_replica.append(record.failure or "")
    return [failures for failures in classes.values() if failures]
