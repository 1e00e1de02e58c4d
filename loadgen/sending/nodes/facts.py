"""What a machine says of itself as a node."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from foundation.machine import this_machine
from foundation.processor import processor_name
from loadgen.sending.nodes.node import NodeFacts
from loadgen.sending.workers_needed import stored_ceiling

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NETWORK = Path("/proc/self/ns/net")


def facts_here() -> NodeFacts:
    """What this machine says of itself."""
    machine, notes = this_machine(), list[str]()
    return NodeFacts(
        name=machine.host,
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        dyno=machine.dyno,
        network=network_here(),
        ceiling=stored_ceiling(notes.append),
        notes=notes,
    )


def network_here() -> str:
    """Names this machine's network: what shares it has the same 127.0.0.1.

    The boot of its kernel and the network namespace; the host's name where there is neither.
    """
    try:
        return f"{_BOOT.read_text(encoding='ascii').strip()} {_NETWORK.readlink()}"
    except OSError:
        return platform.node()
