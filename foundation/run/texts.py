"""The answers of many requests, compressed. As Python strings they would take more memory than the
rest of a run.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import overload

import numpy as np

from foundation.arrays import Ints

_TOGETHER = 256  # texts in one compressed page


@dataclass(frozen=True, eq=False)
class _Page:
    """At most `_TOGETHER` texts. `size`: bytes unpacked. `ends`: where each text ends, in bytes."""

    packed: bytes
    size: int
    ends: Sequence[int]


class Texts(Sequence[str]):
    """A read-only sequence of strings. Reading them in order is fast, jumping between pages is
    slow.
    """

    def __init__(self, pages: Sequence[_Page], places: Ints | None = None) -> None:
        """`places` (n,): which of the pages' strings these are, None for all of them."""
        self._pages = pages
        self._ends = list(accumulate(len(page.ends) for page in pages))
        self._places = np.arange(self._ends[-1] if pages else 0) if places is None else places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return list(Texts(self._pages, self._places[index]))
        place = int(self._places[index])
        page = bisect_right(self._ends, place)
        return _unpacked(self._pages[page])[place - self._ends[page]]

    def __iter__(self) -> Iterator[str]:
        begin = end = 0
        strings: Sequence[str] = ()
        for place in self._places.tolist():
            if not begin <= place < end:
                page = bisect_right(self._ends, place)
                strings, end = _unpacked(self._pages[page]), self._ends[page]
                begin = end - len(strings)
            yield strings[place - begin]

    @classmethod
    def of(cls, strings: Sequence[str]) -> Texts:
        """Compresses some strings."""
        return cls(
            [
                _packed(strings[begin : begin + _TOGETHER])
                for begin in range(0, len(strings), _TOGETHER)
            ]
        )

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """Several sequences one after another."""
        sizes = [texts._ends[-1] if texts._ends else 0 for texts in parts]
        places = [
            texts._places + before
            for texts, before in zip(parts, accumulate([0, *sizes]), strict=False)
        ]
        return cls([page for texts in parts for page in texts._pages], np.concatenate(places))

    def take(self, index: Ints) -> Texts:
        """The strings at the places `index`, in that order."""
        return Texts(self._pages, self._places[index])


def _packed(strings: Sequence[str]) -> _Page:
    import pyarrow as pa

    encoded = [string.encode(errors="surrogatepass") for string in strings]
    whole = b"".join(encoded)
    return _Page(
        pa.compress(whole, codec="zstd", asbytes=True),
        len(whole),
        array("I", accumulate(map(len, encoded))),
    )


@lru_cache(maxsize=16)
def _unpacked(page: _Page) -> list[str]:
    import pyarrow as pa

    whole = pa.decompress(page.packed, page.size, codec="zstd", asbytes=True)
    starts = [0, *page.ends]
    return [
        whole[begin:end].decode(errors="surrogatepass")
        for begin, end in zip(starts, page.ends, strict=False)
    ]
