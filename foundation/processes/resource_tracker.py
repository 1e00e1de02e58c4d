"""Python's resource tracker, which removes the shared memory of its processes once they are gone.

Standard library only, since `serve.supervisor` runs on nothing else.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

TRACKER_PATIENCE_S = 2.0
"""How long a tracker may take after its processes are gone."""


def is_resource_tracker(pid: int) -> bool:
    """Whether a process is a resource tracker; False for one that is gone."""
    with contextlib.suppress(OSError):
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
