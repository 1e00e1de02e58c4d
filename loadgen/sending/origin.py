"""The origin of a block: the moment that all of its times count from."""

from __future__ import annotations

import time
from typing import NamedTuple


class Origin(NamedTuple):
    """`monotonic_ns`: the moment on CLOCK_MONOTONIC of the machine that sends.

    `key_ns`: the moment that the keys of the requests hold, the same on every machine of a block:
    the origin in the journal that their parts become.
    """

    monotonic_ns: int
    key_ns: int

    @classmethod
    def ahead(cls, lead_ns: int) -> Origin:
        """So many ns from now, on this machine."""
        at_ns = time.monotonic_ns() + lead_ns
        return cls(at_ns, at_ns)

    def on_node(self, offset_ns: int) -> Origin:
        """The same moment on a node whose clock is so far ahead of this machine's, in ns."""
        return Origin(self.monotonic_ns + offset_ns, self.key_ns)
