"""Why latency changed: queueing and prefill, verbosity, and the speed of a token."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Floats
from foundation.run.requests import Requests
from results.comparison.pairing import Pairing
from results.statistics.intervals import TAIL, estimate, t_bounds
from results.summary import Decomposition


def decompose(pairing: Pairing) -> Decomposition | None:
    """Why mean latency changed, over pairs of requests for the same prompt in paired blocks.

    None where there is no such pair. Of each pair `d(latency) = d(TTFT) + TPOT_base x d(output
    tokens) + (output_tokens_variant - 1) x d(TPOT)`: so do the means. An answer of one token has no
    TPOT; any would keep the sum, and the baseline's mean is taken (else the other answer's). What
    remains, where a server's token count and its chunks disagree, is the residual.
    """
    parts = [part for a, b in pairing.blocks if len(part := _pair_parts(a.steady, b.steady))]
    if not parts:
        return None
    everything = np.concatenate(parts)
    units = np.array([part.mean(axis=0) for part in parts]) if len(parts) > 1 else everything
    means = everything.mean(axis=0)
    whole, first, verbosity, speed = (
        estimate(
            float(means[i]), t_bounds(float(means[i]), units[:, i], TAIL, TAIL), len(everything)
        )
        for i in range(4)
    )
    return Decomposition(
        latency=whole,
        prefill_and_queueing=first,
        verbosity=verbosity,
        speed_per_token=speed,
        residual=float(means[0] - means[1:].sum()),
    )


def _pair_parts(ours: Requests, theirs: Requests) -> Floats:
    """(pairs, 4): the change of latency and its three parts, in ms."""
    i, j = _matches(ours, theirs)
    tokens, base_tokens = ours.output_tokens[i], theirs.output_tokens[j]
    tpot, base_tpot = ours.tpot[i], theirs.tpot[j]
    typical = float(np.nanmean(base_tpot)) if np.any(~np.isnan(base_tpot)) else np.nan
    base_tpot = np.where(np.isnan(base_tpot), typical, base_tpot)
    base_tpot = np.where(np.isnan(base_tpot), tpot, base_tpot)
    base_tpot = np.nan_to_num(base_tpot)
    tpot = np.where(np.isnan(tpot), base_tpot, tpot)
    parts = [
        ours.latency[i] - theirs.latency[j],
        ours.ttft[i] - theirs.ttft[j],
        base_tpot * (tokens - base_tokens),
        (tokens - 1) * (tpot - base_tpot),
    ]
    return np.column_stack(parts)


def _matches(ours: Requests, theirs: Requests) -> tuple[list[int], list[int]]:
    """Indices of requests for one prompt, the k-th paired with the k-th, if both succeeded."""
    waiting: dict[tuple[str, int], int] = {key: j for j, key in _usable(theirs)}
    matches = [(i, waiting[key]) for i, key in _usable(ours) if key in waiting]
    return [i for i, _ in matches], [j for _, j in matches]


def _usable(requests: Requests) -> list[tuple[int, tuple[str, int]]]:
    times_asked: dict[str, int] = {}
    requests_by_prompt = []
    usable = requests.ok & ~np.isnan(requests.latency) & (requests.output_tokens >= 1)
    for i, (prompt, good) in enumerate(zip(requests.prompt_id, usable.tolist(), strict=True)):
        times_asked[prompt] = times_asked.get(prompt, 0) + 1
        if good:
            requests_by_prompt.append((i, (prompt, times_asked[prompt])))
    return requests_by_prompt
