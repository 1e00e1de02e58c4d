"""Least squares without negative coefficients, from normal equations that can be added up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from foundation.arrays import Flags, Floats, Ints

_SINGULAR = 1e-12
"""Of the largest eigenvalue: below it there is only the error of a float."""
_CLOSE = 1e-10
"""Below this eigenvalue columns of length 1 are the same but for the error of a float."""
_JUMPS = 12
"""Random jumps along each direction that the data do not fix."""


@dataclass(frozen=True)
class NormalEquations:
    """Least squares of k coefficients over each of s segments of the data.

    `gram` (s, k, k): X'X. `cross` (s, k): X'y. `square` (s,): y'y.
    """

    gram: Floats
    cross: Floats
    square: Floats

    def __len__(self) -> int:
        return len(self.square)

    @staticmethod
    def of(design: Floats, target: Floats, segment: Ints) -> NormalEquations:
        """From `design` (n, k) and `target` (n,), by `segment` (n,), from 0 without gaps."""
        order = np.argsort(segment, kind="stable")
        design, target = design[order], target[order]
        starts = np.searchsorted(segment[order], np.arange(int(segment.max()) + 1))
        products = design[:, :, None] * design[:, None, :]
        return NormalEquations(
            np.add.reduceat(products, starts),
            np.add.reduceat(design * target[:, None], starts),
            np.add.reduceat(target**2, starts),
        )

    def of_columns(self, keep: Flags) -> NormalEquations:
        """Of the coefficients in the mask `keep` (k,) alone; the others are 0."""
        return NormalEquations(
            self.gram * np.outer(keep, keep), np.where(keep, self.cross, 0.0), self.square
        )

    def sums(self, weights: Floats) -> NormalEquations:
        """m sums of the segments, each times its weight in `weights` (m, s)."""
        return NormalEquations(
            np.einsum("ms,sjk->mjk", weights, self.gram),
            weights @ self.cross,
            weights @ self.square,
        )

    def solved(self) -> Floats:
        """The least squares with no coefficient below 0, of each segment, (s, k).

        A coefficient without data is 0.
        """
        scale = _scale(self.gram)
        values, vectors = np.linalg.eigh(self.gram / (scale[:, :, None] * scale[:, None, :]))
        is_known = values > _SINGULAR * values[:, -1:]
        root = np.sqrt(np.where(is_known, values, 1.0))
        design = np.where(is_known, root, 0.0)[:, :, None] * vectors.transpose(0, 2, 1)
        target = np.einsum("skj,sk->sj", vectors, self.cross / scale) / root
        target = np.where(is_known, target, 0.0)
        solutions = [nnls(a, b)[0] for a, b in zip(design, target, strict=True)]
        return np.array(solutions).reshape(scale.shape) / scale

    def errors(self, coefficients: Floats) -> Floats:
        """The summed squares of each segment (s,) with its `coefficients` (s, k)."""
        fitted = np.einsum("sj,sjk,sk->s", coefficients, self.gram, coefficients)
        explained = np.einsum("sk,sk->s", coefficients, self.cross)
        return np.asarray(self.square - 2 * explained + fitted)

    def moved(self, coefficients: Floats, weights: Floats) -> NormalEquations:
        """The whole, m times, with the scores of the segments added `weights` (m, s) times.

        A score is what `coefficients` (k,) leave over of X'y.
        """
        gram, m = self.gram.sum(axis=0), len(weights)
        scores = self.cross - self.gram @ coefficients
        return NormalEquations(
            np.repeat(gram[None], m, axis=0),
            self.cross.sum(axis=0) + weights @ scores,
            np.full(m, float(self.square.sum())),
        )

    def loose(self, deviation: float, rows: int) -> Floats:
        """The directions (k, q) in which the data do not fix the coefficients.

        `deviation`: the standard deviation of a row, whose target is about 1. A direction is loose
        if chance moves it by half of what all coefficients together could move.
        """
        gram = self.gram.sum(axis=0)
        place = np.flatnonzero(np.diag(gram))
        scale = _scale(gram)[place]
        values, vectors = np.linalg.eigh(gram[np.ix_(place, place)] / np.outer(scale, scale))
        is_loose = values < max(4 * deviation**2 / rows, _CLOSE)
        loose = np.zeros((len(gram), int(is_loose.sum())))
        loose[place] = vectors[:, is_loose] / scale[:, None]
        return loose


def spread(coefficients: Floats, loose: Floats, rng: np.random.Generator) -> Floats:
    """`coefficients` (m, k), each moved by chance along `loose` (k, q) as far as none is below 0.

    The jumps are those of hit-and-run: any place that is allowed is as likely as any other.
    """
    if not loose.shape[1]:
        return coefficients
    moved = coefficients.copy()
    for _ in range(_JUMPS * loose.shape[1]):
        way = rng.standard_normal((len(moved), loose.shape[1])) @ loose.T
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = -moved / way
        low = np.max(np.where(way > 0, reach, -np.inf), axis=1)
        high = np.min(np.where(way < 0, reach, np.inf), axis=1)
        is_bound = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(is_bound, low, 0.0), np.where(is_bound, high, 0.0)
        moved = np.maximum(moved + rng.uniform(low, high)[:, None] * way, 0.0)
    return moved


def _scale(gram: Floats) -> Floats:
    """What a column is divided by to have length 1; 1 for one without data. (..., k)."""
    diagonal = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    return np.where(diagonal > 0, diagonal, 1.0)
