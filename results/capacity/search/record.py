"""`search.json`: what a search found for each variant, and every probe that it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Literal

import msgspec

from results.capacity.search.bracket import lower_bound, upper_bound
from results.capacity.search.posterior import RateRange
from results.capacity.search.probe import RateProbe, ShareLimit
from results.capacity.search.search import CONFIDENCE, SearchOutcome

SCHEMA_VERSION = 1


class ProbedShare(msgspec.Struct, frozen=True, kw_only=True):
    """`over` of `requests` were over the limit, which lets the share `allowed` be.

    `low`, `high`: bounds of the share. `effective_requests`: how many independent requests would
    say as much.
    """

    allowed: float
    over: int
    requests: int
    effective_requests: float
    low: float
    high: float


class ProbeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A probe: its stage in the run, its rate in requests/s, and what it shows by itself.

    `overloaded`: why the load was not held. `doubt`: why the probe does not count.
    """

    stage: str
    rate: float
    requests: int
    shows: Literal["holds", "fails", "unsettled", "nothing"]
    shares: Mapping[str, ProbedShare]
    overloaded: str | None
    doubt: str | None


class VariantSearch(msgspec.Struct, frozen=True, kw_only=True):
    """The highest rate that a variant holds lies between `holds` and `fails`, requests/s.

    null: no probe shows that end. `prior_low`, `prior_high`: where a model of the run expected it;
    a null `prior_high` beside a `prior_low`: that or more.
    `identity`: that of its journals. `replicas`: the servers that hold the rate together.
    """

    variant: str
    holds: float | None
    fails: float | None
    resolved: bool
    sentence: str
    prior_low: float | None
    prior_high: float | None
    identity: str
    probes: Sequence[ProbeRecord]
    replicas: int = 1


class CapacitySearch(msgspec.Struct, frozen=True, kw_only=True):
    """A search of all variants of a run. `confidence`: that of each interval."""

    schema_version: int
    name: str
    slo: Mapping[str, str]
    max_rate: float
    confidence: float
    notes: Sequence[str]
    variants: Sequence[VariantSearch]


def variant_search(
    variant: str,
    identity: str,
    outcome: SearchOutcome,
    probes: Mapping[str, RateProbe],
    limits: Sequence[ShareLimit],
    prior: RateRange | None,
) -> VariantSearch:
    """The record of one variant. `probes`: by stage."""
    return VariantSearch(
        variant=variant,
        holds=outcome.holds,
        fails=outcome.fails,
        resolved=outcome.resolved,
        sentence=outcome.sentence,
        prior_low=prior.low if prior else None,
        prior_high=prior.high if prior and prior.high < inf else None,
        identity=identity,
        probes=[_probe_record(stage, probe, limits) for stage, probe in probes.items()],
    )


def of_replicas(search: VariantSearch, replicas: int) -> VariantSearch:
    """The record of a variant that so many servers answered for."""
    if replicas == 1:
        return search
    sentence = f"{replicas} replicas together: {search.sentence}"
    return msgspec.structs.replace(search, replicas=replicas, sentence=sentence)


def capacity_search(
    name: str,
    max_rate: float,
    limits: Sequence[ShareLimit],
    notes: Sequence[str],
    variants: Sequence[VariantSearch],
) -> CapacitySearch:
    """The record of a search."""
    return CapacitySearch(
        schema_version=SCHEMA_VERSION,
        name=name,
        slo={limit.metric: limit.text for limit in limits},
        max_rate=max_rate,
        confidence=CONFIDENCE,
        notes=notes,
        variants=variants,
    )


def _probe_record(stage: str, probe: RateProbe, limits: Sequence[ShareLimit]) -> ProbeRecord:
    shares = {limit.metric: _probed(probe, limit) for limit in limits}
    return ProbeRecord(
        stage=stage,
        rate=probe.rate,
        requests=probe.requests,
        shows=_shows(probe, list(shares.values())),
        shares=shares,
        overloaded=probe.overloaded,
        doubt=probe.doubt,
    )


def _probed(probe: RateProbe, limit: ShareLimit) -> ProbedShare:
    share = probe.shares[limit.metric]
    return ProbedShare(
        allowed=limit.allowed,
        over=share.over,
        requests=share.requests,
        effective_requests=share.requests / share.inflation,
        low=lower_bound([probe], limit.metric),
        high=upper_bound([probe], limit.metric),
    )


def _shows(
    probe: RateProbe, shares: Sequence[ProbedShare]
) -> Literal["holds", "fails", "unsettled", "nothing"]:
    if probe.doubt is not None:
        return "nothing"
    if probe.overloaded is not None or any(share.low > share.allowed for share in shares):
        return "fails"
    return "holds" if all(share.high < share.allowed for share in shares) else "unsettled"
