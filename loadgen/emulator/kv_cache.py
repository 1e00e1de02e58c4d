"""The blocks of a KV cache, and the prefix cache that lies in those that nobody needs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

BlockKeys = Callable[[int], Hashable]
"""The key of a request's full block: equal keys mean equal tokens up to the block's end."""

_ENDLESS = 1 << 60


class KvCache:
    """Counts the blocks in use. A block with a key keeps its tokens after its last request.

    `blocks` None: as many as anybody wants. Rooms are taken from blocks without a key first, then
    from the block with a key that was freed first. Of two blocks with one key only the first is
    kept.
    """

    def __init__(self, blocks: int | None) -> None:
        self.blocks = blocks
        self._plain = _ENDLESS if blocks is None else blocks
        self._idle: OrderedDict[Hashable, None] = OrderedDict()
        self._holders: dict[Hashable, int] = {}

    @property
    def free(self) -> int:
        """Blocks that no request holds."""
        return self._plain + len(self._idle)

    @property
    def usage(self) -> float:
        """The share of the blocks that requests hold; 0 of an endless cache."""
        return 0.0 if self.blocks is None else 1 - self.free / self.blocks

    def hits(self, keys: BlockKeys, most: int) -> list[Hashable]:
        """The keys of the first blocks that are there, at most `most`."""
        known: list[Hashable] = []
        while len(known) < most:
            key = keys(len(known))
            if key not in self._holders and key not in self._idle:
                break
            known.append(key)
        return known

    def fits(self, blocks: int, hits: Sequence[Hashable]) -> bool:
        """Whether a request with these hits can have `blocks` in all."""
        idle = sum(key in self._idle for key in hits)
        return blocks - len(hits) + idle <= self.free

    def hold(self, hits: Sequence[Hashable]) -> None:
        """Gives a request the blocks of these keys, which are there."""
        for key in hits:
            self._idle.pop(key, None)
            self._holders[key] = self._holders.get(key, 0) + 1

    def take(self, blocks: int) -> None:
        """Gives a request new blocks. There are as many free ones."""
        plain = min(blocks, self._plain)
        self._plain -= plain
        for _ in range(blocks - plain):
            self._idle.popitem(last=False)

    def name(self, key: Hashable) -> bool:
        """Gives a block that was taken its key; returns whether no other block has it."""
        if key in self._holders or key in self._idle:
            return False
        self._holders[key] = 1
        return True

    def release(self, keys: Sequence[Hashable | None], blocks: int) -> None:
        """Takes `blocks` back, whose first have `keys`. The last become the first to be reused."""
        self._plain += blocks - len(keys)
        for key in reversed(keys):
            if key is None:
                self._plain += 1
            elif self._holders[key] > 1:
                self._holders[key] -= 1
            else:
                del self._holders[key]
                self._idle[key] = None
