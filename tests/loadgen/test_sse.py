"""The SSE parser against a second one that is simple and slow, over any bytes in any pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz.reference import events_of
from loadgen.protocol.sse import SseParser, whole_events, whole_events_in_python


def parse(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(c % (len(stream) + 1) for c in cuts)})
    return [stream[a:b] for a, b in pairwise(places)]


FRAGMENTS = st.sampled_from(
    [b"data: ", b"data:", b"data", b"data: {}\n", b"{", b"}", b"error: ",
     b"event: error", b"event:x", b": comment", b"id: 7", b"\n", b"\r\n", b"\r", b"\n\n", b"[DONE]",
     b'{"a":"', "é😀".encode(), b'"}', b" ", b":", b"retry: 1"]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=40), st.lists(st.integers(0, 10_000), max_size=30))
def test_any_stream_cut_anywhere_gives_the_events_of_the_standard(
    fragments: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(fragments)
    assert parse(cut(stream, cuts)) == events_of(stream)


@given(
    st.lists(
        st.one_of(st.binary(max_size=30), FRAGMENTS.map(lambda data: b"data: " + data + b"\n\n")),
        max_size=12,
    ),
    st.integers(0, 3),
)
def test_whole_events_are_those_that_the_standard_finds_in_one_line(
    pieces: list[bytes], start: int
) -> None:
    events = whole_events(pieces, start)
    assert events == whole_events_in_python(pieces, start)
    assert events == [
        data for piece in pieces[start : start + len(events)] for _, data in events_of(piece)
    ]
    if start + len(events) < len(pieces):
        after = pieces[start + len(events)]
        assert (
            not after.startswith(b"data: ")
            or after.count(b"\n") != 2
            or b"\r" in after
            or after[-2:] != b"\n\n"
        )


@given(
    st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1), min_size=1),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_byte_by_byte(texts: list[str], newline: str) -> None:
    stream = "".join(f"data: {text}{newline}{newline}" for text in texts).encode()
    assert parse([bytes([b]) for b in stream]) == [(b"", text.encode()) for text in texts]


def test_several_events_in_one_piece_and_a_comment_between() -> None:
    assert parse([b"data: 1\n\n: ping\n\ndata: 2\n\ndata: 3\n"]) == [(b"", b"1"), (b"", b"2")]


def test_lines_of_data_are_joined() -> None:
    assert parse([b"event: e\ndata: 1\ndata:2\n\n"]) == [(b"e", b"1\n2")]


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    assert parse([b"\xef\xbb", b"\xbfdata: 1\n\n"]) == [(b"", b"1")]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_given_out_with_the_bytes_that_end_it(newline: bytes) -> None:
    parser = SseParser()
    assert parser.feed(b"data: 1" + newline) == []
    assert parser.feed(newline) == [(b"", b"1")]


def test_objects_without_an_empty_line_between_them_are_events() -> None:
    parser = SseParser()
    assert [
        parser.feed(line) for line in (b'data: {"a": 1}\n', b"data: {}\n", b"data: [DONE]\n", b"\n")
    ] == [
        [],
        [(b"", b'{"a": 1}'), (b"", b"{}")],
        [],
        [(b"", b"[DONE]")],
    ]
    assert parse([b'data: {"a":\ndata: {}\ndata: }\n\n']) == [(b"", b'{"a":\n{}\n}')]


def test_a_megabyte_in_small_pieces() -> None:
    big = b"x" * 1_000_000
    stream = b"data: " + big + b"\n\n"
    assert parse([stream[i : i + 100] for i in range(0, len(stream), 100)]) == [(b"", big)]
