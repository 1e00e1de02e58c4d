"""The schema of `improve.json`: the rounds of `dyno improve`, and how they ended."""

from __future__ import annotations

from typing import Literal

import msgspec

from results.summary import Decision, Estimate

IMPROVE_SCHEMA_VERSION = 1

Ending = Literal["ships", "reconsider", "not settled", "time over", "rounds over"]


class KnownEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of remedy did once on this machine, as a factor on what binds.

    `about`: what binds ("latency", "cost" ...), or "score" for what it did to the score. `expected`
    is 1 where nothing was expected. Of what is better when higher, both are inverses.
    """

    kind: str
    about: str
    expected: float
    measured: float


class TriedRemedy(msgspec.Struct, frozen=True, kw_only=True):
    """A remedy, the `variant` that it made, and its effect on the metric that binds.

    Effects are factors: the metric of this variant over that of the variant it changes, under the
    same load in the same blocks. `published`: as this run or the literature (`source`) has it;
    `expected`: corrected by what was measured on this machine before. None where nobody knows.
    `error`: `measured` over `expected`, less 1. `score`: the factor on the score; what was expected
    of it, before and after correction. `change`: the variant, as lines of the experiment.
    """

    variant: str
    kind: str
    remedy: str
    change: str
    source: str
    published: float | None
    expected: float | None
    score_published: float
    score_expected: float
    measured: Estimate | None = None
    score: Estimate | None = None
    error: float | None = None
    decision: Decision | None = None
    headline: str = ""


class SkippedRemedy(msgspec.Struct, frozen=True, kw_only=True):
    """A remedy that was not tried, and why."""

    remedy: str
    why: str


class ImproveRound(msgspec.Struct, frozen=True, kw_only=True):
    """A round: a run of its own in `folder`, which lies in the run's folder.

    `variant`: the one that the remedies change. `metric` and `label`: of the objective that binds
    it, in `binding`'s words; `floor`: whether it is a least value; `about`: the family of what
    binds. `blocks`: of the judged stage. `headline`: of the round's verdict,
    None until it is measured.
    """

    number: int
    folder: str
    variant: str
    metric: str
    label: str
    floor: bool
    about: str
    binding: str
    blocks: int
    tried: list[TriedRemedy]
    skipped: list[SkippedRemedy]
    headline: str | None = None


class Improvement(msgspec.Struct, frozen=True, kw_only=True):
    """`improve.json`.

    `first`: the headline of the run's own verdict. `rule`: how expectations are corrected.
    `ending` is None until it ended; `sentence` says it in words. `ships`: the variant that may
    ship. `replicas`: what more replicas would do, in words, from the engine model. `skipped`: what
    was left out when nothing was left.
    """

    schema_version: int = IMPROVE_SCHEMA_VERSION
    name: str
    first: str
    rule: str
    rounds: list[ImproveRound] = []
    ending: Ending | None = None
    ships: str | None = None
    sentence: str = ""
    replicas: str | None = None
    skipped: list[SkippedRemedy] = []
