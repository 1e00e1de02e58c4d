"""The part of a load that one host of several sends: --share, --start-at and --gap."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dyno.experiment.from_flags.values import seconds_of
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from loadgen.schedule.arrivals import SECOND, WorkerShare

GAP = "10s"
LEAST_S = 10.0
"""What it takes at least to read the data, reach the server and warm it up."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = "write a time of day with its zone, such as 2026-12-01T10:00:00Z"


@dataclass(frozen=True)
class LoadPart:
    """Every `of`-th arrival of a load from the `number`-th (from 1).

    `start`: when the first block begins. `gap_s`: seconds between the end of a block and the
    beginning of the next one, in which answers come in.
    """

    number: int
    of: int
    start: datetime
    gap_s: float

    @property
    def share(self) -> WorkerShare:
        """Its places among the arrivals."""
        return WorkerShare(self.number - 1, self.of)

    @property
    def start_ns(self) -> int:
        """The start in ns since 1970."""
        return (self.start - _EPOCH) // timedelta(microseconds=1) * 1_000

    @property
    def words(self) -> str:
        """ "part 3 of 8"."""
        return f"part {self.number} of {self.of}"

    def check(self, experiment: Experiment, now_ns: int) -> None:
        """Raises BadInput for a load that hosts can't share, and for a start that is too near.

        `now_ns`: since 1970.
        """
        for stage in experiment.workload.stages:
            if stage.concurrency is not None and stage.duration is None:
                raise BadInput(
                    "--share: a closed loop of --requests ends when its answers have come, so no "
                    "host knows when the next block begins; write --duration, such as 60s"
                )
            if stage.concurrency is not None and stage.concurrency < self.of:
                raise BadInput(
                    f"--share: {self.of} hosts can't share {stage.concurrency} requests in flight; "
                    f"write a --concurrency of {self.of} or more"
                )
        if (left_s := (self.start_ns - now_ns) / SECOND) < LEAST_S:
            when = f"is in {left_s:.0f} s" if left_s > 0 else f"was {-left_s:.0f} s ago"
            raise BadInput(
                f"--start-at: {text_of(self.start)} {when}, and a host needs {LEAST_S:.0f} s or "
                "more to reach the server and warm it up; write a later one on all hosts"
            )

    def applied(self, experiment: Experiment) -> Experiment:
        """The experiment, whose salt for prefix caches is the same on all hosts if it has one."""
        if experiment.salted() is experiment:
            return experiment
        workload = experiment.workload.model_copy(update={"cache_salt": f"{self.start_ns:x}"})
        return experiment.model_copy(update={"workload": workload})

    def starts_ns(self, lengths_ns: Sequence[int]) -> Iterator[int]:
        """When each block begins, ns since 1970, from the lengths of all blocks."""
        at_ns = self.start_ns
        for each in lengths_ns:
            yield at_ns
            at_ns += each + round(self.gap_s * SECOND)


def load_part(share: str | None, start_at: str | None, gap: str | None) -> LoadPart | None:
    """The part that the flags name, None without them. Raises BadInput."""
    if share is None:
        for flag, value in (("--start-at", start_at), ("--gap", gap)):
            if value is not None:
                raise BadInput(f"{flag} goes with --share")
        return None
    numbers = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", share)
    number, of = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not 1 <= number <= of:
        raise BadInput(f"--share: write K/N with K from 1 to N, such as 3/8, not {share!r}")
    if start_at is None:
        raise BadInput(f"--share goes with --start-at: {_START}, the same on all hosts")
    return LoadPart(number, of, _time(start_at), seconds_of("--gap", gap or GAP))


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise BadInput(f"--start-at: {text} names no zone; {_START}")
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput(f"--start-at: {_START}, not {text!r}") from None


def text_of(time: datetime) -> str:
    """A time in UTC: 2026-12-01T10:00:00Z."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
