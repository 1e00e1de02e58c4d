"""Whether the load generator, and not the server, set a stage's latencies."""

from __future__ import annotations

import numpy as np

from foundation.run.ceiling import SLIP_LIMIT_MS
from results.measures.steady_state import StageData

LATE_SHARE = 0.1
SENT_LATE = "the load generator sent late"


def client_late(stage: StageData) -> str | None:
    """Why the load generator, and not the server, set the latencies; None where it did not."""
    slip = np.concatenate([b.requests.slip[~np.isnan(b.requests.slip)] for b in stage.blocks])
    latency = np.concatenate(
        [b.requests.latency[b.requests.ok & ~np.isnan(b.requests.latency)] for b in stage.blocks]
    )
    if len(slip) == 0 or len(latency) == 0:
        return None
    late, typical = float(np.percentile(slip, 95)), float(np.percentile(latency, 50))
    if late <= SLIP_LIMIT_MS or late <= LATE_SHARE * typical:
        return None
    return (
        f"{SENT_LATE}: one request in 20 by more than {late:.0f} ms, with a median latency of "
        f"{typical:.0f} ms; "
        "lower the rate, or drive it from more cores"
    )
