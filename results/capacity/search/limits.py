"""The SLO of a search: each objective as a share of requests that may be over a limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foundation.arrays import Floats
from foundation.errors import BadInput
from foundation.run.requests import Requests
from results.capacity.search.bracket import ERROR
from results.capacity.search.probe import ProbeShare, ShareLimit, probe_share
from results.config import Limit, Slo
from results.metrics import RECORDS

_ASKED = "dyno search takes limits on percentiles of requests (ttft_p95: 500ms) and on shares"


def share_limits(slo: Slo) -> tuple[list[ShareLimit], list[str]]:
    """The objectives of an SLO, and a note on each floor under a rate, which is left out.

    No lower load reaches such a floor. Raises BadInput where a search can't decide an objective,
    or where none is left.
    """
    rates = [metric for metric in slo.limits if RECORDS[metric].kind == "rate"]
    limits = [
        _share_limit(metric, limit) for metric, limit in slo.limits.items() if metric not in rates
    ]
    if not limits:
        where = f"slo: {', '.join(rates)} is no limit that a lower rate keeps" if rates else "slo"
        raise BadInput(f"{where}: write what each request must keep, such as ttft_p95: 500ms")
    notes = [f"slo.{metric} does not count: no lower rate reaches a floor" for metric in rates]
    return limits, notes


def _share_limit(metric: str, limit: Limit) -> ShareLimit:
    record = RECORDS[metric]
    if limit.absolute is None:
        raise BadInput(
            f"slo.{metric}: {limit.text} is relative to the baseline, whose value changes with the "
            "rate; write a limit such as 500ms"
        )
    if record.kind == "share":
        if not 0 < limit.absolute < 1:
            raise BadInput(
                f"slo.{metric}: no number of requests shows {limit.text}; write a share such as 1%"
            )
        return ShareLimit(metric, limit.absolute, None, limit.text)
    if record.of != "request":
        raise BadInput(f"slo.{metric}: it is over tokens, not over requests; {_ASKED}")
    if not record.statistic.startswith("p"):
        raise BadInput(f"slo.{metric}: a mean is no share of requests; {_ASKED}")
    return ShareLimit(metric, 1 - record.q / 100, limit.absolute, limit.text)


def share_of(limit: ShareLimit, requests: Requests) -> ProbeShare:
    """How many requests count against an objective, of those that it is about.

    A request that failed counts against a limit on a time: a server that turns requests away at a
    rate does not hold that rate. An answer without the time, such as the TPOT of one token, does
    not count at all.
    """
    if limit.limit is None:
        about = requests if limit.metric == "error_rate" else requests.where(requests.ok)
        over = {"error_rate": ~about.ok, "empty_rate": about.empty}.get(
            limit.metric, about.cut_short
        )
    else:
        about = requests.where(~requests.ok | ~np.isnan(times_of(limit, requests)))
        over = ~(about.ok & (times_of(limit, about) <= limit.limit))
    return probe_share(over, about.latency, limit.allowed)


def unloaded_over(limits: Sequence[ShareLimit], requests: Requests) -> str | None:
    """What says that not even these lone requests keep a limit on a time; None where some may.

    All of them are over it, and were answered. That happens by chance once in 200 times at most.
    """
    for limit in limits:
        times = times_of(limit, requests) if limit.limit is not None else np.zeros(0)
        if limit.limit is None or not len(times) or np.isnan(times).any() or not requests.ok.all():
            continue
        if times.min() > limit.limit and ERROR ** (1 / len(times)) > limit.allowed:
            family = RECORDS[limit.metric].family
            return f"one request at a time has a {family} of {np.median(times):.3g} ms"
    return None


def times_of(limit: ShareLimit, requests: Requests) -> Floats:
    """The times (n,) that a limit is about, ms, NaN where a request has none."""
    return np.asarray(getattr(requests, RECORDS[limit.metric].family), dtype=np.float64)


def unknown(limits: Sequence[ShareLimit], requests: Requests) -> str | None:
    """The metric that no successful request has, None where each is known for some."""
    for limit in limits:
        if limit.limit is None or not requests.ok.any():
            continue
        if np.isnan(times_of(limit, requests)[requests.ok]).all():
            return limit.metric
    return None
