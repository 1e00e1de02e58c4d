"""Chunked coding and heads of HTTP/1.1, and the kernel's clock."""

from __future__ import annotations

import time
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadgen.transport.chunked_coding import ChunkedDecoder
from loadgen.transport.clocks import offset_ns
from loadgen.transport.head import parse_head


def chunk(body: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(body), extension, body)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    return [
        stream[a:b]
        for a, b in pairwise(sorted({0, len(stream), *(c % (len(stream) + 1) for c in cuts)}))
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=st.lists(
        st.tuples(
            st.one_of(
                st.binary(min_size=1, max_size=60),
                st.sampled_from([b"\r\n", b"0\r\n\r\n", b"5\r\nab"]),
            ),
            st.sampled_from([b"", b"", b"", b";a=b", b" ", b';q="\\""']),
        ),
        max_size=12,
    ),
    trailer=st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ: 0\r\n"]),
    cuts=st.lists(st.integers(0, 10_000), max_size=40),
    whole=st.booleans(),
    batch=st.integers(1, 8),
)
def test_chunks_cut_anywhere_carry_their_bytes(
    receiver: str,
    bodies: list[tuple[bytes, bytes]],
    trailer: bytes,
    cuts: list[int],
    whole: bool,
    batch: int,
) -> None:
    """Whole chunks first, then cut ones: every byte comes out with the piece that held it."""
    chunks = [chunk(*body) for body in bodies] + [b"0\r\n" + trailer + b"\r\n"]
    stream = b"".join(chunks)
    pieces = chunks if whole else cut(stream, cuts)
    carries = b"".join(
        b"0" * (len(framed) - len(body) - 2) + b"1" * len(body) + b"00"
        for framed, (body, _) in zip(chunks, bodies, strict=False)
    ).ljust(len(stream), b"0")
    ends = list(accumulate(map(len, pieces)))
    expected = [
        bytes(
            byte
            for byte, is_body in zip(
                stream[end - len(piece) : end], carries[end - len(piece) : end], strict=True
            )
            if is_body == 49
        )
        for piece, end in zip(pieces, ends, strict=True)
    ]
    decoder = ChunkedDecoder()
    carried: list[bytes] = []
    for first in range(0, len(pieces), batch):
        carried += decoder.take_off(pieces[first : first + batch])
        assert decoder.finished == (first + batch >= len(pieces))
    assert carried == expected
    assert not decoder.surplus and decoder.wrong is None
    decoder.take_off([b"x"])
    assert decoder.surplus


@pytest.mark.parametrize(
    "stream",
    [
        b"zz\r\n",
        b"0x5\r\nhello\r\n",
        b"-1\r\n",
        b"1_0\r\n",
        b"3\r\nhello\r\n",
        b"\r\n",
        b"1" * 20_000,
        b"2\r\nabXY",
    ],
)
def test_what_is_no_chunked_coding_is_refused(receiver: str, stream: bytes) -> None:
    decoder = ChunkedDecoder()
    assert decoder.take_off([chunk(b"good"), stream, chunk(b"bad")])[0] == b"good"
    assert decoder.wrong is not None and not decoder.finished


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-ENCODING:chunked", (200, True, None, True)),
        (b"HTTP/1.1 200\r\nContent-Length: 5\r\nConnection: Close", (200, False, 5, False)),
        (b"HTTP/1.0 200 OK", (200, False, None, False)),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0", (200, False, 0, True)),
        (b"HTTP/1.1 204 No Content", (204, False, 0, True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", (200, False, 5, True)),
    ],
)
def test_heads(head: bytes, expected: tuple[Any, ...]) -> None:
    read = parse_head(head)
    assert (read.status, read.chunked, read.length, read.keep_alive) == expected


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0",
        b"HTTP/2 200",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
    ],
)
def test_heads_that_are_none(head: bytes) -> None:
    with pytest.raises(ValueError):
        parse_head(head)


def test_the_clock_offset_brings_real_time_to_monotonic_time() -> None:
    before = time.monotonic_ns()
    converted = time.time_ns() + offset_ns()
    assert before - 1_000_000 <= converted <= time.monotonic_ns() + 1_000_000
