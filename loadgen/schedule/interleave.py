"""The order in which variants take turns, so that drift of the machine affects all alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def interleave(variants: Sequence[str], blocks: int, seed: int) -> list[list[str]]:
    """The order of the variants in each of `blocks` blocks: AB, BA, AB, ... for two, a Williams
    design for more.

    Every order is followed by its reverse, so two blocks cancel a linear drift. A full cycle is k
    blocks for an even number k of variants, 2k for an odd one. In it each variant comes equally
    often in each place and after each other variant. Source: E. J. Williams, "Experimental designs
    balanced for the estimation of residual effects", Aust. J. Sci. Res. 2, 1949.
    """
    k = len(variants)
    if k == 0:
        return [[] for _ in range(blocks)]
    rng = np.random.default_rng(seed)
    names = [variants[i] for i in rng.permutation(k)]
    zigzag = [i // 2 + 1 if i % 2 else (k - i // 2) % k for i in range(k)]
    shifts = rng.permutation(k if k % 2 else k // 2)
    rows: list[list[str]] = []
    for shift in shifts:
        row = [names[(place + int(shift)) % k] for place in zigzag]
        rows += [row, row[::-1]]
    return [rows[block % len(rows)] for block in range(blocks)]
