"""`part.json`: which part of a load a directory holds, when one host of several sent it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.run.records import Stamp

PART = "part.json"
_FROM_1 = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of `part.json`: the part `share` (from 1) of `of` parts.

    `start_at`: when the first block began, ISO 8601 with its zone. `gap_s`: the seconds between two
    blocks. `clock_bound_ns`: how far this host's time of day could be off when the load began; None
    where nobody knew.
    """

    schema_version: int = 1
    share: _FROM_1
    of: _FROM_1
    start_at: str
    gap_s: float
    tunedyno: str
    python: str
    clock_bound_ns: Stamp | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a part beyond the last."""
        if self.share > self.of:
            raise ValueError(f"there is no {self.words}")

    @property
    def words(self) -> str:
        """ "part 3 of 8"."""
        return f"part {self.share} of {self.of}"


def write_part(run: Path, part: PartRecord) -> None:
    """Writes `part.json`."""
    write_whole(run / PART, msgspec.json.format(msgspec.json.encode(part), indent=2) + b"\n")


def read_part(run: Path) -> PartRecord:
    """The part of a load in this directory. Raises BadInput where its file can't be read."""
    try:
        return msgspec.json.decode((run / PART).read_bytes(), type=PartRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{run / PART}: can't be read ({error}); send that part again") from None


def check_whole_load(run: Path) -> None:
    """Raises BadInput for a directory that holds a part of a load only."""
    if (run / PART).is_file():
        raise BadInput(
            f"{run}: only {read_part(run).words} of a load; put all parts together first: "
            "dyno merge PART... (a part can't be resumed, since its time is over)"
        )
