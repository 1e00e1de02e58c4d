"""The prefix cache: the share of the input that it should have answered, and that it did."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from foundation.arrays import Floats
from foundation.run.journal import Journal
from foundation.run.requests import Requests
from results.measures.counter_samples import CounterSamples
from results.statistics.intervals import absent
from results.summary import Estimate


def cache_metrics(
    journals: Sequence[Journal], telemetry: CounterSamples | None
) -> dict[str, Estimate]:
    """Both shares over the blocks of a stage; the intended one only if the workload intends any.

    The server's own counters go before what it says of each request.
    """
    observed = (_observed(journals, telemetry) if telemetry else None) or _told(journals)
    intended = _intended(journals)
    if observed is None and intended is None:
        return {}
    shares = {"cache_hit_share": observed or absent("the server does not tell")}
    return shares if intended is None else {**shares, "intended_cache_hit_share": intended}


def _intended(journals: Sequence[Journal]) -> Estimate | None:
    inputs, shared = _known(journals, lambda requests: requests.shared_tokens)
    return (
        None
        if np.isnan(shared).all()
        else _share(np.minimum(np.nan_to_num(shared), inputs), inputs)
    )


def _told(journals: Sequence[Journal]) -> Estimate | None:
    """By `cached_tokens` of the requests' usage.

    A server that names it in some answers means 0 in the others.
    """
    inputs, cached = _known(journals, lambda requests: requests.cached_tokens)
    return None if np.isnan(cached).all() else _share(np.nan_to_num(cached), inputs)


def _known(
    journals: Sequence[Journal], column: Callable[[Requests], Floats]
) -> tuple[Floats, Floats]:
    """Input tokens and another column of all requests whose input tokens are known."""
    everything = [(journal.requests.input_tokens, column(journal.requests)) for journal in journals]
    inputs, values = (np.concatenate(parts) for parts in zip(*everything, strict=True))
    return inputs[~np.isnan(inputs)], values[~np.isnan(inputs)]


def _observed(journals: Sequence[Journal], telemetry: CounterSamples) -> Estimate | None:
    """By the counters of the last sample before each block and the first one after it."""
    at_ns, counters = telemetry.known("prefix_cache_hits", "prefix_cache_queries")
    counted = []
    for journal in journals:
        origin_ns, end = journal.header.origin_monotonic_ns, journal.end
        before = int(np.searchsorted(at_ns, origin_ns, side="right")) - 1
        after = (
            int(np.searchsorted(at_ns, origin_ns + end.ended_ns)) if end is not None else len(at_ns)
        )
        if before < 0 or after == len(at_ns):
            return None
        hits, queries = counters[:, after] - counters[:, before]
        if not 0 <= hits <= queries:  # the server began again
            return None
        counted.append((hits, queries))
    return _share(*np.array(counted).T)


def _share(parts: Floats, wholes: Floats) -> Estimate | None:
    return (
        Estimate(value=float(parts.sum() / wholes.sum()), n=len(wholes)) if wholes.sum() else None
    )
