"""Reads the journal of a probe: what the search is to know about its rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foundation.arrays import Floats
from foundation.errors import BadInput
from foundation.run.journal import Journal
from foundation.run.requests import Requests
from results.capacity.search.limits import share_of, unknown
from results.capacity.search.probe import RateProbe, ShareLimit, overload
from results.measures.sent_late import client_late
from results.measures.steady_state import StageData, block_of


def read_probe(journal: Journal, limits: Sequence[ShareLimit]) -> RateProbe | None:
    """The probe in a journal; None where it was stopped before it showed anything.

    One that was stopped early counts only if it shows an overloaded server. Raises BadInput where
    no answer has a metric of the limits.
    """
    rate, sent = journal.header.offered_rate, sent_requests(journal)
    if rate is None or not len(sent):
        return None
    if (metric := unknown(limits, sent)) is not None:
        raise BadInput(
            f"slo.{metric}: no answer of {journal.header.variant} has it, so no rate can be shown "
            "to hold; leave it out"
        )
    at, took = _stays(sent)
    why = overload(at, took)
    if (journal.end is None or journal.end.end == "interrupted") and why is None:
        return None
    return RateProbe(
        rate=rate,
        arrived=_arrived(sent, rate),
        shares={limit.metric: share_of(limit, sent) for limit in limits},
        overloaded=why,
        completed=float(sent.ok.sum() / ((at + took).max() - at[0])) if len(at) else 0.0,
        doubt=_doubt(journal),
    )


def sent_requests(journal: Journal) -> Requests:
    """The requests of the window, less those that were never sent since the probe was stopped."""
    requests = block_of(journal).requests
    cancelled = [failure == "cancelled" for failure in requests.failure]
    return requests.where(~np.array(cancelled, dtype=np.bool_))


def _arrived(requests: Requests, rate: float) -> float:
    """Requests/s that were scheduled; `rate` where one request or one moment says nothing."""
    span = float(np.ptp(requests.scheduled_ns)) / 1e9
    return (len(requests) - 1) / span if span else rate


def _stays(requests: Requests) -> tuple[Floats, Floats]:
    """Scheduled time and time to the end, in s, of the requests that came to an end."""
    took = requests.done - requests.scheduled
    known = ~np.isnan(took)
    return requests.scheduled[known] / 1e3, took[known] / 1e3


def _doubt(journal: Journal) -> str | None:
    block, header = block_of(journal), journal.header
    return client_late(StageData(header.stage, header.offered_rate, None, [block]))
