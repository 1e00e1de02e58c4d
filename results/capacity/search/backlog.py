"""Whether a backlog grows while a load still goes on, so that it can be stopped."""

from __future__ import annotations

from math import sqrt

import numpy as np

from foundation.arrays import Ints
from results.measures.saturation import FULL_SLOPE, FULL_VARIANCE

FEWEST_ARRIVALS = 50
DEVIATIONS = 3.0
"""A load is watched again and again, so the slope must be this far above chance."""


def backlog_grows(arrived: Ints, ended: Ints) -> bool:
    """Whether requests in flight rise faster than at a server that is exactly full.

    `arrived`, `ended` (n,): how many had arrived and ended at successive moments, the first of
    which lies after the load had built up. The bounds are those of `measures.saturation`: in flight
    is a random walk in the number of arrivals there.
    """
    if len(arrived) < 3:
        return False
    arrivals = float(arrived[-1] - arrived[0])
    if arrivals < FEWEST_ARRIVALS:
        return False
    x, in_flight = arrived - arrived.mean(), arrived - ended
    slope = float(np.dot(x, in_flight - in_flight.mean())) / float(np.dot(x, x))
    return slope > FULL_SLOPE / sqrt(arrivals) + DEVIATIONS * sqrt(FULL_VARIANCE / arrivals)
