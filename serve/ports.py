"""Free ports on 127.0.0.1, held until the server that was given one is gone, and who listens on them."""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from foundation.errors import BadInput

HOST = "127.0.0.1"


# Ports of a range that servers of this process have; the sockets below don't keep one another out.
_given: set[int] = set()


@dataclass(frozen=True)
class HeldPort:
    """A port and the socket that holds it."""

    number: int
    _holder: socket.socket

    def close_to_others(self) -> None:
        """Let nobody else listen there any more: for when the server listens.

        The kernel lets two sockets share a port only where both have SO_REUSEADDR, or SO_REUSEPORT. The holder gives it up
        and lives on: what comes after the server, when it is gone, can't bind. (Where the server has SO_REUSEPORT, as some
        releases of vLLM have, another may still join it; `listeners` sees that.)
        """
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


@contextmanager
def held_port(ports: str | None) -> Iterator[HeldPort]:
    """A port that nobody else gets while this is open: any, or one of "FIRST-LAST". Raises BadInput where all are taken.

    The socket that holds it is bound with SO_REUSEADDR and never listens, so vLLM, which sets that option too, can bind
    beside it ten seconds later, and every connection is vLLM's. So can anybody else who sets it: `listeners` tells.
    """
    port = (
        0 if ports is None else next((port for port in port_range(ports) if _is_free(port)), None)
    )
    if port is None:
        raise BadInput(
            f"serve.ports: every port of {ports} is taken; widen the range or stop what uses it"
        )
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, port))
        port = holder.getsockname()[1]
        _given.add(port)
        try:
            yield HeldPort(port, holder)
        finally:
            _given.discard(port)


@dataclass(frozen=True)
class Listeners:
    """Who listens on a port of 127.0.0.1: whether one of ours does, and in words what else does."""

    ours: bool
    strangers: tuple[str, ...]


def listeners(port: int, ours: Collection[int]) -> Listeners:
    """Ask the kernel. `ours`: the process ids that may listen there.

    A listener on all addresses gets a connection to 127.0.0.1 only where nobody listens on that address itself.
    """
    sockets = _listening(port)
    held = sockets & _sockets_of(ours) if sockets else set()
    return Listeners(bool(held), tuple(sorted(map(_owner_in_words, sockets - held))))


# How the kernel writes the address in /proc/net/tcp and, for a socket that takes both protocols, /proc/net/tcp6.
_ADDRESS = f"{int.from_bytes(socket.inet_aton(HOST), sys.byteorder):08X}"
_MAPPED = f"{0:016X}{int.from_bytes(bytes([0, 0, 255, 255]), sys.byteorder):08X}{_ADDRESS}"
_LISTENS = "0A"


def _listening(port: int) -> set[str]:
    """The sockets that listen on the port, by the kernel's number, as links to them are written."""
    places = {f"{address}:{port:04X}" for address in (_ADDRESS, _MAPPED)}
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):  # a kernel without IPv6
            rows = (row.split() for row in table.read_text(encoding="ascii").splitlines())
            found |= {
                f"socket:[{row[9]}]" for row in rows if row[1] in places and row[3] == _LISTENS
            }
    return found


def _sockets_of(pids: Iterable[int]) -> set[str]:
    """What the processes have open, as far as this user may see."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    found.add(str(descriptor.readlink()))
    return found


def _owner_in_words(listening: str) -> str:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if listening in _sockets_of([process.pid]):
                return f"process {process.pid} ({' '.join(process.cmdline())[:80]})"
    return "a process of another user"


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
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # what a server left behind when it stopped is no obstacle
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError:
            return False
    return True
