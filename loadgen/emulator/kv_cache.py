"""The blocks of a KV cache, and the prefix cache that lies in those that nobody needs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

BlockKeys = Callable[[int], Hashable]
"""The key of a request's full block: equal keys mean equal tokens up to the block's end."""

_ENDLESS = 1 << 60


class KvCache:
    """Counts the blocks in use. A block with a key keeps its tokens after its last request.

    `blocks` None: as many as anybody wants. Room is taken from blocks without a key first, then
    from the block with a key that was freed first. Blocks with a key have a number.
    """

    def __init__(self, blocks: int | None) -> None:
        self.blocks = blocks
        self._plain = _ENDLESS if blocks is None else blocks
        self._named = 0
        self._keys: dict[int, Hashable] = {}
        self._copies: dict[Hashable, dict[int, None]] = {}
        self._holders: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that no request holds."""
        return self._plain + len(self._idle)

    @property
    def usage(self) -> float:
        """The share of the blocks that requests hold; 0 of an endless cache."""
        return 0.0 if self.blocks is None else 1 - self.free / self.blocks

    def hits(self, keys: BlockKeys, most: int) -> list[int]:
        """The first blocks that are there, at most `most`."""
        known: list[int] = []
        while len(known) < most and (copies := self._copies.get(keys(len(known)))):
            known.append(next(iter(copies)))
        return known

    def fits(self, blocks: int, hits: Sequence[int]) -> bool:
        """Whether a request with these hits can have `blocks` in all."""
        idle = sum(block in self._idle for block in hits)
        return blocks - len(hits) + idle <= self.free

    def hold(self, hits: Sequence[int]) -> None:
        """Gives a request these blocks, which are there."""
        for block in hits:
            self._idle.pop(block, None)
            self._holders[block] = self._holders.get(block, 0) + 1

    def take(self, blocks: int) -> None:
        """Gives a request new blocks. There are as many free ones."""
        plain = min(blocks, self._plain)
        self._plain -= plain
        for _ in range(blocks - plain):
            block, _none = self._idle.popitem(last=False)
            key = self._keys.pop(block)
            del self._copies[key][block]
            if not self._copies[key]:
                del self._copies[key]

    def name(self, key: Hashable) -> int:
        """Gives a block that was taken its key, which another may have too."""
        self._named += 1
        block = self._named
        self._keys[block] = key
        self._copies.setdefault(key, {})[block] = None
        self._holders[block] = 1
        return block

    def release(self, named: Sequence[int], blocks: int) -> None:
        """Takes `blocks` back, `named` among them. Of these the last are the first to be reused."""
        self._plain += blocks - len(named)
        for block in reversed(named):
            if self._holders[block] > 1:
                self._holders[block] -= 1
            else:
                del self._holders[block]
                self._idle[block] = None
