"""The lengths of prompts and answers in tokens: one length, or a distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, PlainSerializer

from foundation.units import parse_count, parse_number

_SYNTAX = (
    "512, uniform:256:768, normal:512:64 or lognormal:512:0.5 "
    "(median, sigma; then the least and the most, if wanted)"
)
_TRIES = 1000


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths: `kind` with its parameters `first` and `second`.

    `fixed` is the length `first`. `uniform` goes from first to second, both included. `normal` has
    a mean and a standard deviation, `lognormal` a median and the sigma of the logarithm. Draws
    outside [`least`, `most`] are drawn again.
    """

    text: str
    kind: str
    first: float
    second: float = 0.0
    least: int = 1
    most: int | None = None

    @classmethod
    def parse(cls, value: object) -> Lengths:
        """From `512` or `"lognormal:512:0.5:16:2048"`. Raises ValueError."""
        if isinstance(value, Lengths):
            return value
        text = str(value)
        kind, *numbers = text.split(":")
        try:
            if not numbers:
                lengths = cls(text, "fixed", parse_count(value))
            elif kind == "uniform" and len(numbers) == 2:
                lengths = cls(text, kind, parse_count(numbers[0]), parse_count(numbers[1]))
            elif kind in ("normal", "lognormal") and len(numbers) in (2, 4):
                lengths = cls(
                    text,
                    kind,
                    parse_count(numbers[0]),
                    parse_number(numbers[1]),
                    *map(parse_count, numbers[2:]),
                )
            else:
                raise ValueError
        except ValueError:
            raise ValueError(f"write {_SYNTAX}, not {value!r}") from None
        if (
            lengths.first < 1
            or lengths.second < 0
            or (kind == "uniform" and lengths.second < lengths.first)
        ):
            raise ValueError(f"lengths are 1 or more, the smaller bound first, not {value!r}")
        if lengths.most is not None and not lengths.least <= lengths.first <= lengths.most:
            raise ValueError(
                f"the least and the most lie on either side of {lengths.first:g}, not {value!r}"
            )
        return lengths

    def __str__(self) -> str:
        return self.text

    @property
    def smallest(self) -> int:
        """The smallest length that is sure to be drawn now and then. No smaller one can be
        promised.
        """
        return int(self.first) if self.kind in ("fixed", "uniform") else self.least

    def draw(self, rng: np.random.Generator, n: int, floor: int = 1) -> list[int]:
        """Draws `n` lengths of at least `floor`, which also bounds the tails of `normal` and
        `lognormal`.
        """
        if self.kind == "fixed":
            return [int(self.first)] * n
        if self.kind == "uniform":
            return [
                int(x) for x in rng.integers(int(self.first), int(self.second), n, endpoint=True)
            ]
        least, most = max(self.least, floor), np.inf if self.most is None else self.most
        lengths = self._tail(rng, n)
        for _ in range(_TRIES):
            outside = (lengths < least) | (lengths > most)
            if not outside.any():
                break
            lengths[outside] = self._tail(rng, int(outside.sum()))
        return [int(x) for x in np.clip(lengths, least, most)]

    def _tail(
        self, rng: np.random.Generator, n: int
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        if self.kind == "normal":
            return np.rint(rng.normal(self.first, self.second, n))
        return np.rint(rng.lognormal(np.log(self.first), self.second, n))


LengthsField = Annotated[Lengths, BeforeValidator(Lengths.parse), PlainSerializer(str)]
