"""Holds free ports for servers, of 127.0.0.1 or another address, and tells who listens there."""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import psutil

from foundation.errors import BadInput

HOST = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
"""Every address of this machine."""
_held: set[int] = set()
"""Ports that this process holds. The sockets below share ports, so they don't show it."""


@dataclass(frozen=True)
class HeldPort:
    """A port and the socket that holds it."""

    number: int
    _holder: socket.socket

    def close_to_others(self) -> None:
        """Keep all others from listening there; for when the server listens.

        The kernel lets two sockets share a port only if both have SO_REUSEADDR, or SO_REUSEPORT.
        The holder gives up the option and stays open, so nobody can bind after the server is gone.
        Some releases of vLLM set SO_REUSEPORT: another process may join them. `listeners` sees it.
        """
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on this IPv4 address."""
    return IPv4Address(host).is_loopback


def reached_at(host: str) -> str:
    """The address at which this machine reaches what listens on `host`."""
    return HOST if host == EVERYWHERE else host


@contextmanager
def held_port(ports: str | None, host: str = HOST) -> Iterator[HeldPort]:
    """Holds a port while it is open: any, or one of "FIRST-LAST".

    Raises BadInput if all are taken, or if this machine has no such address.

    The holding socket is bound with SO_REUSEADDR and never listens. vLLM sets that option too, so
    it can bind beside the holder ten seconds later, and gets every connection. Any other process
    that sets the option can do the same: `listeners` sees it.
    """
    port = (
        0
        if ports is None
        else next((port for port in port_range(ports) if _is_free(port, host)), None)
    )
    if port is None:
        raise BadInput(
            f"serve.ports: every port of {ports} is taken; widen the range or stop what uses it"
        )
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((host, port))
        except OSError as error:
            reason = error.strerror or error
            raise BadInput(f"serve.host: no port of {host} can be bound ({reason})") from None
        port = holder.getsockname()[1]
        _held.add(port)
        try:
            yield HeldPort(port, holder)
        finally:
            _held.discard(port)


@dataclass(frozen=True)
class Listeners:
    """Who listens on a port: whether we do, and all others in words."""

    ours: bool
    strangers: tuple[str, ...]


def listeners(port: int, ours: Collection[int], host: str = HOST) -> Listeners:
    """Who listens on the port, as the kernel knows it. `ours`: ids of the processes that may.

    Of 127.0.0.1, listeners on all addresses are left out: they get its connections only if nobody
    listens on that address itself.
    """
    sockets = _listening(port, host)
    our_sockets = sockets & _sockets_of(ours) if sockets else set()
    return Listeners(bool(our_sockets), tuple(sorted(map(_owner_in_words, sockets - our_sockets))))


_LISTENS = "0A"


def _listening(port: int, host: str) -> set[str]:
    """The sockets that listen on the port, as links in /proc name them ("socket:[123]").

    The kernel writes an address in its own order of bytes, and with a prefix in /proc/net/tcp6,
    where IPv6 sockets listen for both protocols.
    """
    prefix = f"{0:016X}{int.from_bytes(bytes([0, 0, 255, 255]), sys.byteorder):08X}"
    plain = {
        f"{int.from_bytes(socket.inet_aton(each), sys.byteorder):08X}"
        for each in (host, reached_at(host))
    }
    addresses = {f"{each}:{port:04X}" for each in (*plain, *(prefix + own for own in plain))}
    sockets = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):  # a kernel without IPv6
            rows = (row.split() for row in table.read_text(encoding="ascii").splitlines())
            sockets |= {
                f"socket:[{row[9]}]" for row in rows if row[1] in addresses and row[3] == _LISTENS
            }
    return sockets


def _sockets_of(pids: Iterable[int]) -> set[str]:
    """Links to all files and sockets that the processes have open and this user may see."""
    links = set()
    for pid in pids:
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    links.add(str(descriptor.readlink()))
    return links


def _owner_in_words(listening: str) -> str:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if listening in _sockets_of([process.pid]):
                return f"process {process.pid} ({' '.join(process.cmdline())[:80]})"
    return "a process of another user"


def port_range(ports: str) -> range:
    """The ports of "FIRST-LAST", both included.

    Raises BadInput unless 1024 <= FIRST <= LAST <= 65535.
    """
    first, last = (int(end) for end in ports.split("-"))
    if not 1024 <= first <= last <= 65535:
        raise BadInput(f"serve.ports: {ports}: write FIRST-LAST, rising, within 1024-65535")
    return range(first, last + 1)


def check_ports(ports: str, needed: int, host: str = HOST) -> None:
    """Raises BadInput if fewer than `needed` ports of the range are free."""
    free = [port for port in port_range(ports) if _is_free(port, host)]
    if len(free) < needed:
        raise BadInput(
            f"serve.ports: {ports} has {len(free)} free port{'' if len(free) == 1 else 's'} "
            f"and {needed} server{'' if needed == 1 else 's'} will be up together; widen the range"
        )


def _is_free(port: int, host: str) -> bool:
    if port in _held:
        return False
    with socket.socket() as probe:
        # With the option, closed connections of an earlier server are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    return True
