"""Whether a term or a shape pays: by the error of steps that the fit has not seen."""

from __future__ import annotations

from math import sqrt

from foundation.arrays import Floats

FOLDS = 8
"""Into so many parts segments are divided, each of which is held out once."""
_PAYS = 2.0
"""Standard errors by which the error of steps that were held out must fall."""


def pays(gains: Floats) -> bool:
    """Whether the error of held-out folds falls, by `gains` (f,), beyond chance; one tells none."""
    n = len(gains)
    return n > 1 and float(gains.mean()) > _PAYS * float(gains.std(ddof=1)) / sqrt(n)
