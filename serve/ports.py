"""Free ports on 127.0.0.1, held until the server that was given one is gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from foundation.errors import BadInput

HOST = "127.0.0.1"


# Ports of a range that servers of this process have; the sockets below don't keep one another out.
_given: set[int] = set()


@contextmanager
def held_port(ports: str | None) -> Iterator[int]:
    """A port that nobody else gets while this is open: any, or one of "FIRST-LAST". Raises BadInput where all are taken.

    The socket that holds it is bound with SO_REUSEADDR and never listens, so vLLM, which sets that option too, can bind
    beside it ten seconds later, and every connection is vLLM's.
    """
    port = 0 if ports is None else next((port for port in port_range(ports) if _is_free(port)), None)
    if port is None:
        raise BadInput(f"serve.ports: every port of {ports} is taken; widen the range or stop what uses it")
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, port))
        port = holder.getsockname()[1]
        _given.add(port)
        try:
            yield port
        finally:
            _given.discard(port)


def port_range(ports: str) -> range:
    """The ports of "FIRST-LAST", both counted. Raises BadInput for a range that runs backwards or out of 1024-65535."""
    first, last = (int(end) for end in ports.split("-"))
    if not 1024 <= first <= last <= 65535:
        raise BadInput(f"serve.ports: {ports}: write FIRST-LAST, rising, within 1024-65535")
    return range(first, last + 1)


def check_ports(ports: str, needed: int) -> None:
    """Raises BadInput where fewer than `needed` ports of the range are free."""
    free = [port for port in port_range(ports) if _is_free(port)]
    if len(free) < needed:
        raise BadInput(
            f"serve.ports: {ports} has {len(free)} free port{'' if len(free) == 1 else 's'} and {needed} "
            f"server{'' if needed == 1 else 's'} will be up together; widen the range"
        )


def _is_free(port: int) -> bool:
    if port in _given:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a server left behind when it stopped is no obstacle
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError:
            return False
    return True
