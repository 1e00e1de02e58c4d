"""A stream's bytes read into an answer, and the class of each way it can end."""

from __future__ import annotations

import json
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.run.records import Failure
from loadgen.protocol.reply import Reply

DONE = b"data: [DONE]\n\n"


def event(**data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def said(content: str | None, finish: object = None, **more: Any) -> bytes:
    return event(
        choices=[{"index": 0, "delta": {"content": content}, "finish_reason": finish}], **more
    )


def usage(inputs: int, outputs: int) -> dict[str, int]:
    return {"prompt_tokens": inputs, "completion_tokens": outputs}


def read(*pieces: bytes) -> Reply:
    """Pieces that arrive at 100, 200, 300, ... and are read 7 later."""
    reply = Reply()
    for number, piece in enumerate(pieces, start=1):
        reply.feed([piece], [100 * number], [100 * number + 7])
    reply.close()
    return reply


def test_role_and_empty_chunks_are_not_content() -> None:
    role = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    reply = read(
        role,
        said("a"),
        said(""),
        said("b"),
        said(None, "stop"),
        event(choices=[], usage=usage(5, 3)),
        DONE,
    )
    assert reply.chunk_at_ns == [200, 400]
    assert reply.chunk_lag_ns == [7, 7]
    assert reply.text == "ab"
    assert (reply.finish_reason, reply.done_at_ns) == ("stop", 700)
    assert reply.tokens() == ([1, 1], [], 5, 3, None)
    assert reply.notes() == []
    assert reply.verdict(200, None, "") == (None, None)


def test_a_running_count_says_how_many_tokens_a_chunk_carried() -> None:
    reply = read(
        said("a", usage=usage(5, 1)),
        said("", usage=usage(5, 2)),  # half a character: its token is in the next chunk
        said("é", usage=usage(5, 3)),
        said("bcd", usage=usage(5, 6)),
        said("", "stop", usage=usage(5, 7)),
        DONE,
    )
    assert reply.tokens() == ([1, 2, 3], [], 5, 7, None)


def test_without_a_running_count_a_chunk_is_one_token() -> None:
    reply = read(
        said("a"), said("bcd"), said(None, "length"), event(choices=[], usage=usage(1, 4)), DONE
    )
    assert reply.tokens() == ([1, 1], [], 1, 4, None)


def test_thoughts_are_content_in_time_but_not_in_text() -> None:
    thought = event(choices=[{"index": 0, "delta": {"reasoning_content": "hm"}}])
    reply = read(thought, said("a"), said(None, "stop"), DONE)
    assert reply.chunk_at_ns == [100, 200]
    assert reply.text == "a"


def test_text_completions() -> None:
    reply = read(
        event(choices=[{"index": 0, "text": "a", "finish_reason": None}]),
        event(choices=[{"text": "b", "finish_reason": "stop"}]),
        DONE,
    )
    assert reply.text == "ab" and reply.chunk_at_ns == [100, 200]
    assert reply.verdict(200, None, "") == (None, None)


def test_the_server_s_own_timings_are_kept() -> None:
    reply = read(
        said("a", "stop"),
        event(choices=[], usage=usage(1, 1), metrics={"queue_time_ms": 1.5}),
        DONE,
    )
    assert reply.server_metrics == {"queue_time_ms": 1.5}


@given(
    st.lists(
        st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), min_size=1, max_size=8
    ),
    st.lists(st.integers(0, 10_000)),
)
def test_a_stream_cut_anywhere_reads_the_same(texts: list[str], cuts: list[int]) -> None:
    stream = b"".join(said(text) for text in texts) + said(None, "stop") + DONE
    places = sorted({0, len(stream), *(c % len(stream) for c in cuts)})
    reply = read(*(stream[a:b] for a, b in pairwise(places)))
    assert reply.text == "".join(texts)
    assert len(reply.chunk_at_ns) == len(texts)
    assert reply.complete and reply.done_at_ns


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(
        st.sampled_from(
            [said("a"), said("é"), said("b", usage=usage(5, 9)), said(None, "stop"),
                event(choices=[], usage=usage(5, 3)), DONE,
             b"data: {oops\n\n", b": comment\n\n", b"event: error\ndata: died\n\n", b"data: \n\n",
             said("c").replace(b"\n", b"\r\n"), b"data: 1\ndata: 2\n\n",
             event(error="e"), event(choices=[], metrics={"queue_time_ms": 1.5})]
        ),
        min_size=1,
        max_size=20,
    ),
    cuts=st.lists(st.integers(0, 10_000), max_size=4),
    batch=st.integers(1, 9),
)  # fmt: skip
def test_pieces_read_together_read_as_one_by_one(
    receiver: str, events: list[bytes], cuts: list[int], batch: int
) -> None:
    stream = b"".join(events)
    places = sorted({0, *accumulate(map(len, events)), *(c % len(stream) for c in cuts)})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    times = [100 * number for number in range(1, len(pieces) + 1)]
    together = Reply()
    for first in range(0, len(pieces), batch):
        part = slice(first, first + batch)
        together.feed(pieces[part], times[part], [at + 7 for at in times[part]])
    together.close()
    alone = read(*pieces)
    assert together.verdict(200, None, "") == alone.verdict(200, None, "")
    for reply in (together, alone):
        del reply._sse
    assert vars(together) == vars(alone)


WHOLE = said("a") + said(None, "stop") + DONE


@pytest.mark.parametrize(
    ("status", "body", "broken", "failure"),
    [
        (200, WHOLE, None, None),
        (200, said("a") + said(None, "stop") + b"data: [DONE]\n", None, None),
        (200, said("a") + said(None, "stop") + b"data:[DONE]", None, None),
        (200, said("a") + said(None, "stop") + b"data: [DONE] \n\n", None, None),
        (200, WHOLE.replace(b"data: ", b"data:"), None, None),
        (200, WHOLE, "reset", None),
        # no [DONE]: a whole answer where the body ended as HTTP has it, else not
        (200, said("a") + said(None, "stop"), None, None),
        (200, said("a") + said(None, "stop").rstrip(), None, None),
        (200, said("a") + said(None, "stop"), "truncated", "truncated"),
        (200, said("a") + said(None, "stop"), "reset", "reset"),
        (200, said("a") + said(None, "stop"), "timeout_stall", "timeout_stall"),
        # no finish reason
        (200, said("a") + DONE, None, "aborted"),
        (200, said("a") + DONE, "reset", "aborted"),
        (200, said("a"), None, "aborted"),
        (200, b"", None, "aborted"),
        (200, b": ping\n\n", None, "aborted"),
        (200, said("a") + said("b")[:-9], None, "truncated"),
        (200, said("a"), "reset", "reset"),
        (200, said("a"), "timeout_stall", "timeout_stall"),
        (200, said("a")[:-9], None, "truncated"),
        (200, event(error={"message": "died"}) + DONE, None, "stream_error"),
        (200, said("a") + b"event: error\ndata: died\n\n", "reset", "stream_error"),
        (200, b"data: {oops\n\n" + WHOLE, None, "malformed"),
        (200, b'data: {"choices": "none"}\n\n' + WHOLE, None, "malformed"),
        (200, b"<html>\n\n</html>", None, "malformed"),
        (
            200,
            b'{"choices": [{"message": {"content": "not a stream"}, "finish_reason": "stop"}]}',
            None,
            "malformed",
        ),
        (
            200,
            b'{"choices": [{"message": {"content": "not a stream"}, "finish_reason": "stop"}]}\n\n',
            None,
            "malformed",
        ),
        (404, b'{"error": "no such model"}', None, "http_4xx"),
        (503, b"", "reset", "http_5xx"),
        (302, b"", None, "malformed"),
        (None, b"", "timeout_first", "timeout_first"),
    ],
)
def test_each_ending_has_its_class(
    status: int | None, body: bytes, broken: Any, failure: str | None
) -> None:
    outcome, words = read(body).verdict(status, broken, "as the transport says")
    assert outcome == failure
    assert (words is None) == (failure is None)


@pytest.mark.parametrize(
    ("reason", "failure"),
    [
        *(
            (reason, None)
            for reason in ("stop", "length", "tool_calls", "function_call", "content_filter")
        ),
        *(
            (reason, "aborted")
            for reason in (
                "abort",
                "error",
                "",
                "cancelled",
                "STOP",
                "eos_token",
                7,
                False,
                {"type": "stop"},
            )
        ),
    ],
)
def test_success_is_what_the_server_said(reason: object, failure: str | None) -> None:
    reply = read(said("a"), said(None, reason), event(choices=[], usage=usage(5, 1)), DONE)
    outcome, words = reply.verdict(200, None, "")
    assert outcome == failure
    assert reply.finish_reason == (reason if isinstance(reason, str) else json.dumps(reason))
    if failure is not None:
        assert (
            words is not None
            and "finish_reason" in words
            and (reply.finish_reason or "empty") in words
        )


@pytest.mark.parametrize("broken", [None, "reset", "truncated", "timeout_stall"])
def test_what_the_server_aborted_is_not_blamed_on_the_connection(broken: Failure | None) -> None:
    assert read(said("a"), said(None, "abort")).verdict(200, broken, "gone")[0] == "aborted"


def choice(index: int, content: str | None, finish: str | None = None) -> bytes:
    return event(choices=[{"index": index, "delta": {"content": content}, "finish_reason": finish}])


@pytest.mark.parametrize(
    ("events", "failure", "reason"),
    [
        (
            [said("a", ""), said("b", ""), said(None, "stop")],
            None,
            "stop",
        ),  # an empty reason in every chunk
        ([said("a", "stop"), said("b", "stop")], None, "stop"),
        ([said("a", "stop"), said("", "length")], None, "length"),
        ([said("a", "stop"), said("", "")], None, "stop"),
        ([said("a", "abort"), said("", "stop")], "aborted", "abort"),
        ([said("a", "stop"), said("", "error")], "aborted", "error"),
        (
            [choice(0, "a"), choice(1, "b"), choice(1, None, "stop"), choice(0, None, "length")],
            None,
            "length",
        ),
        (
            [choice(0, "a"), choice(1, "b"), choice(1, None, "abort"), choice(0, None, "stop")],
            "aborted",
            "abort",
        ),
        ([choice(0, "a"), choice(1, "b"), choice(0, None, "stop")], "aborted", "stop"),
        ([choice(1, "b"), choice(1, None, "stop")], None, "stop"),
    ],
)
def test_which_of_several_finish_reasons_counts(
    events: list[bytes], failure: str | None, reason: str
) -> None:
    reply = read(*events, DONE)
    assert reply.verdict(200, None, "")[0] == failure
    if len({event.count(b'"index": 1') for event in events}) == 1:
        assert reply.finish_reason == reason


def test_of_several_choices_the_first_one_s_text_is_the_answer() -> None:
    assert read(choice(0, "a"), choice(1, "x"), choice(0, "b"), choice(1, "y")).text == "ab"


def test_a_missing_done_is_noted_and_the_end_is_the_body_s() -> None:
    reply = read(said("a"), said(None, "stop"), b": bye\n\n")
    assert reply.verdict(200, None, "") == (None, None)
    assert reply.notes() == ["no_done"] and reply.ended_at_ns == 300
    assert read(said("a"), said(None, "stop"), DONE, b": bye\n\n").ended_at_ns == 300


def test_a_failure_quotes_the_server() -> None:
    assert "no such model" in (read(b'{"error": "no such model"}').verdict(404, None, "")[1] or "")
