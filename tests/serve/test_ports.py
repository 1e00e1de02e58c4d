from __future__ import annotations

import os
import socket
from contextlib import ExitStack

import pytest

from foundation.errors import BadInput
from serve.ports import HOST, Listeners, check_ports, held_port, listeners


@pytest.fixture
def two_free() -> str:
    """A range of two neighbouring ports that are free."""
    for first in range(20_000, 60_000, 2):
        with ExitStack() as stack:
            try:
                for port in (first, first + 1):
                    stack.enter_context(socket.socket()).bind((HOST, port))
            except OSError:
                continue
        return f"{first}-{first + 1}"
    raise AssertionError("no two neighbouring free ports")


def test_a_held_port_is_free_for_a_server_that_shares_and_for_nobody_else():
    with held_port(None) as held, socket.socket() as server, socket.socket() as stranger:
        port = held.number
        with pytest.raises(OSError):
            stranger.bind((HOST, port))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((HOST, port))
        server.listen()
        for _ in range(20):  # none of them lands at the holder, which does not listen
            with socket.create_connection((HOST, port), timeout=1), server.accept()[0]:
                pass


def test_a_range_is_used_up_and_then_refused(two_free: str):
    with held_port(two_free) as one, held_port(two_free) as other:
        assert f"{one.number}-{other.number}" == two_free
        with (
            pytest.raises(BadInput, match=rf"serve\.ports: every port of {two_free} is taken"),
            held_port(two_free),
        ):
            pass
    with held_port(two_free) as again:
        assert again.number == one.number


def test_a_range_too_small_is_refused_beforehand(two_free: str):
    check_ports(two_free, 2)
    with pytest.raises(BadInput, match="2 free ports and 3 servers"):
        check_ports(two_free, 3)
    with held_port(two_free), pytest.raises(BadInput, match="1 free port and 2 servers"):
        check_ports(two_free, 2)


def test_a_port_that_somebody_listens_on_is_not_free(two_free: str):
    first, last = map(int, two_free.split("-"))
    with socket.create_server((HOST, first)), held_port(two_free) as port:
        assert port.number == last


def test_a_port_is_free_again_after_a_server_closed_its_connections(two_free: str):
    port = int(two_free.split("-")[0])
    with socket.create_server((HOST, port)) as server:
        client = socket.create_connection((HOST, port))
        server.accept()[0].close()  # leaves TIME_WAIT on the server's port
        client.close()
    with held_port(f"{port}-{port}") as again:
        assert again.number == port


@pytest.mark.parametrize("ports", ["9000-8000", "80-90", "65000-70000"])
def test_a_range_that_is_none(ports: str):
    with pytest.raises(BadInput, match=f"{ports}: write FIRST-LAST"):
        check_ports(ports, 1)


def bound(port: int, *options: int) -> socket.socket:
    listener = socket.socket()
    for option in options:
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
    listener.bind((HOST, port))
    return listener


SHARING = [
    (socket.SO_REUSEADDR,),
    (socket.SO_REUSEPORT,),
    (socket.SO_REUSEADDR, socket.SO_REUSEPORT),
]


@pytest.mark.parametrize("options", SHARING)
def test_a_port_that_is_closed_to_others_stays_so_when_the_server_is_gone(options: tuple[int, ...]):
    with held_port(None) as held:
        with bound(held.number, socket.SO_REUSEADDR) as server:
            server.listen()
            held.close_to_others()
            with pytest.raises(OSError):
                bound(held.number, *options)
            with socket.create_connection((HOST, held.number), timeout=1), server.accept()[0]:
                pass
        with pytest.raises(OSError):
            bound(held.number, *options)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, held.number), timeout=1)


def test_who_listens_is_told_by_process():
    with held_port(None) as held:
        assert listeners(held.number, {os.getpid()}) == Listeners(ours=False, strangers=())
        with bound(held.number, socket.SO_REUSEADDR) as server:
            assert not listeners(held.number, {os.getpid()}).ours, "bound is not listening"
            server.listen()
            assert listeners(held.number, {os.getpid()}) == Listeners(ours=True, strangers=())
            seen = listeners(held.number, {1})
    assert not seen.ours
    assert len(seen.strangers) == 1 and seen.strangers[0].startswith(f"process {os.getpid()} (")


def test_two_that_share_a_port_are_both_seen():
    """SO_REUSEPORT gives each of them a part of the connections."""
    with held_port(None) as held:
        number = held.number
    with bound(number, socket.SO_REUSEPORT) as one, bound(number, socket.SO_REUSEPORT) as two:
        one.listen()
        two.listen()
        assert len(listeners(number, set()).strangers) == 2


def test_a_listener_on_all_addresses_is_not_taken_for_the_server():
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        assert listeners(port, {os.getpid()}) == Listeners(ours=False, strangers=())


def test_a_listener_by_both_protocols_that_gets_our_connections_is_seen():
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind((f"::ffff:{HOST}", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection((HOST, port), timeout=1):
            pass
        assert listeners(port, {os.getpid()}).ours
        assert len(listeners(port, set()).strangers) == 1
