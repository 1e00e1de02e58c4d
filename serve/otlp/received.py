"""What a listener for traces received, as its process says it to the run."""

from __future__ import annotations

import msgspec

PATH = "/v1/traces"
"""Where OTLP over HTTP posts traces."""
LARGEST = 16 * 1024 * 1024
"""The most bytes of a body, decompressed."""
_LEFT_OUT = {
    "others": ("span of other work", "spans of other work"),
    "wrong": ("span whose times are none", "spans whose times are none"),
    "unreadable": ("body that is no OTLP protobuf", "bodies that are no OTLP protobuf"),
    "too_large": (f"body over {LARGEST >> 20} MiB", f"bodies over {LARGEST >> 20} MiB"),
    "unwritten": ("span that the disk did not take", "spans that the disk did not take"),
}


class Received(msgspec.Struct):
    """Counts: spans that were kept, and what was left out.

    `others`: spans of others' requests, or of the server's start. `wrong`: spans with a time that
    is missing, negative, or no number. `unreadable`, `too_large`: bodies. `unwritten`: spans.
    """

    kept: int = 0
    others: int = 0
    wrong: int = 0
    unreadable: int = 0
    too_large: int = 0
    unwritten: int = 0

    def sentence(self) -> str:
        """The counts in words."""
        if self == Received():
            return "none came; was the server started as said above?"
        requests = "1 request" if self.kept == 1 else f"{self.kept:,} requests"
        counts = {name: getattr(self, name) for name in _LEFT_OUT}
        left_out = [f"{n:,} {_LEFT_OUT[name][n > 1]}" for name, n in counts.items() if n]
        return f"the server timed {requests}" + (
            f"; left out: {', '.join(left_out)}" if left_out else ""
        )
