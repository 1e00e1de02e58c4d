"""Unusual forms of servers: fields that no measurement needs fail no answer, errors always do."""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgspec
import pytest

from foundation.run.records import RequestRecord
from loadgen.protocol.lenient_parser import error_in, repaired
from loadgen.transport.content_coding import inflater
from tests.loadgen.test_reply import DONE, event, read, said, usage

END = said(None, "stop") + DONE


def delta(**new: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": new, "finish_reason": None}])


def raw(text: str) -> bytes:
    return b"data: " + text.encode("utf-8", "surrogatepass") + b"\n\n"


CALL = {"index": 0, "id": "t1", "type": "function", "function": {"name": "find", "arguments": ""}}


@pytest.mark.parametrize(
    ("first", "text", "content"),
    [
        (delta(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", True),
        (
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            "",
            True,
        ),
        (
            delta(content=[{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "a"}]),
            "a",
            True,
        ),
        (delta(content=["a", "b"]), "ab", True),
        (delta(content={"type": "text", "text": "a"}), "a", True),
        (delta(content=[]), "", False),
        (delta(content=[{"type": "text", "text": ""}]), "", False),
        (delta(content=None, tool_calls=[CALL]), "", True),
        (delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a'}}]), "", True),
        (delta(tool_calls=[{"index": 0, "function": {"arguments": ""}}]), "", False),
        (delta(content="", tool_calls=[]), "", False),
        (delta(content="", tool_calls=None, function_call=None, refusal=None), "", False),
        (delta(tool_calls=CALL), "", True),
        (
            delta(
                tool_calls=[{"index": 0, "type": "custom", "custom": {"name": "f", "input": "x"}}]
            ),
            "",
            True,
        ),
        (delta(function_call={"name": "f", "arguments": ""}), "", True),
        (delta(function_call={"arguments": "x"}), "", True),
        (delta(refusal="I can't"), "I can't", True),
        (event(choices=[{"index": 0, "message": {"content": "a"}}]), "a", True),
        (event(choices=[{"index": 0, "text": [{"text": "a"}], "finish_reason": None}]), "a", True),
        (event(choices=None), "", False),
        (event(id="x"), "", False),
        (event(), "", False),
    ],
)
def test_content_in_every_form(first: bytes, text: str, content: bool) -> None:
    reply = read(first, END)
    assert reply.verdict(200, None, "") == (None, None)
    assert reply.text == text
    assert reply.chunk_at_ns == [100] * content
    assert reply.only_text == (bool(text) == content)


def test_a_tool_call_is_content_chunk_by_chunk() -> None:
    parts = [delta(tool_calls=[CALL])] + [
        delta(tool_calls=[{"index": 0, "function": {"arguments": word}}]) for word in "abc"
    ]
    reply = read(*parts, said(None, "tool_calls"), event(choices=[], usage=usage(5, 9)), DONE)
    assert reply.chunk_at_ns == [100, 200, 300, 400]
    assert reply.tokens() == ([1, 1, 1, 1], [], 5, 9, None)


DEEP = "[" * 20_000 + "]" * 20_000


@pytest.mark.parametrize(
    "more",
    [
        '"metrics": "broken"',
        '"metrics": [1, 2]',
        '"metrics": {"a": {"b": 1}, "c": [1], "d": 1e999, "e": NaN, '
        '"f": 123456789012345678901234567890}',
        '"logprobs": NaN',
        '"logprobs": {"x": -Infinity}',
        '"id": 7',
        '"id": {"a": [true]}',
        '"id": "\\ud83d"',
        '"object": null',
        '"created": 1e400',
        f'"nested": {DEEP}',
        f'"metrics": {{"a": {DEEP}}}',
        '"usage": null',
        '"usage": {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": "none"}',
        '"error": null',
        '"error": ""',
        '"error": {}',
        '"x": "tab\there"',
    ],
)
def test_what_is_not_needed_can_t_fail_an_answer(more: str) -> None:
    odd = raw(
        '{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}], '
        + more
        + "}"
    )
    reply = read(odd, END)
    assert reply.verdict(200, None, "") == (None, None)
    assert (reply.text, reply.chunk_at_ns) == ("a", [100])
    assert journal_holds(reply.server_metrics)


def journal_holds(metrics: Any) -> bool:
    """Whether the record can be written and read again."""
    record = RequestRecord(id=1, prompt_id="q", scheduled_ns=0, server_metrics=metrics)
    return msgspec.json.decode(msgspec.json.encode(record), type=RequestRecord) == record


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([b'"\\ud83d"', b'"\\ude42"'], "🙂"),  # an emoji in two halves, each escaped by itself
        ([b'"\xf0\x9f"', b'"\x99\x82"'], "🙂"),  # and each as its bytes
        ([b'"a\\ud83d"', b'"b"'], "a�b"),
        ([b'"a\xff"', b'"b"'], "a�b"),
        ([b'"\\udc80"'], "�"),
        ([b'"\xe6\x97"', b'"\xa5"', b'"\xe6"'], "日�"),
    ],
)
def test_half_characters(parts: list[bytes], text: str) -> None:
    reply = read(
        *(
            b'data: {"choices": [{"index": 0, "delta": {"content": %s}}]}\n\n' % part
            for part in parts
        ),
        END,
    )
    assert reply.verdict(200, None, "") == (None, None)
    assert reply.text == text and len(reply.chunk_at_ns) == len(parts)
    assert reply.notes() == (["bad_text"] if "�" in text else [])
    assert msgspec.json.decode(msgspec.json.encode(reply.text)) == text


def test_mended_text_is_text() -> None:
    assert repaired("ab\ud83d\ude42\udcff\ud800") == "ab🙂��"
    assert repaired("plain é") == "plain é"


@pytest.mark.parametrize(
    "body",
    [
        b"data: {oops\n\n",
        b"data: 1\n\n",
        b'data: "x"\n\n',
        b"data: null\n\n",
        b'data: [{"choices": []}]\n\n',
        b'data: {"choices": "none"}\n\n',
        b'data: {"choices": [7]}\n\n',
        b'data: {"choices": [{"delta": "a"}]}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"text": 5}]}\n\n',
        b"data: " + b"[" * 50_000 + b"\n\n",
        b"data: " + b'{"a":' * 50_000 + b"\n\n",
    ],
)
def test_what_can_t_be_understood_is_malformed(body: bytes) -> None:
    assert read(body, said("a"), END).verdict(200, None, "")[0] == "malformed"


@pytest.mark.parametrize(
    "line",
    [
        b"event: ping\ndata: ok\n\n",
        b"event: ping\ndata: {}\n\n",
        b"data: \n\n",
        b"data:\n\n",
        b":\n\n",
    ],
)
def test_signs_of_life_are_no_part_of_the_answer(line: bytes) -> None:
    reply = read(line, said("a"), line, END)
    assert reply.verdict(200, None, "") == (None, None) and reply.chunk_at_ns == [200]


@pytest.mark.parametrize(
    "error",
    [
        event(error="it died"),
        event(error={"message": "it died", "code": 500}),
        event(
            error={"message": "it died"},
            choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
        ),
        event(error=["it died"]),
        event(object="error", message="it died", code=50002),
        event(message="it died", type="Internal", code=500),
        event(type="error", error={"message": "it died"}),
        event(detail="it died"),
        event(detail=[{"msg": "it died"}]),
        event(code=1302, msg="it died"),
        event(error_code=336003, error_msg="it died"),
        b"event: error\ndata: it died\n\n",
        b'event: error\ndata: {"message": "it died"}\n\n',
        b'error: {"message": "it died"}\n\n',
        b'{"error": {"message": "it died"}}\n\n',
    ],
)
def test_an_error_in_every_known_form(error: bytes) -> None:
    for stream in (said("a") + error + DONE, said("a") + error + END, error + END):
        failure, words = read(stream).verdict(200, None, "")
        assert failure == "stream_error" and words is not None and "it died" in words


def test_an_error_event_without_words() -> None:
    assert read(said("a"), b"event: error\n\n", END).verdict(200, None, "")[0] == "stream_error"


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
def test_a_json_error_instead_of_a_stream(end: bytes) -> None:
    body = json.dumps({"error": {"message": "it died", "more": "x" * 2000}}).encode()
    failure, words = read(body[:700], body[700:] + end).verdict(200, None, "")
    assert failure == "stream_error" and "it died" in (words or "")
    assert (
        error_in({"object": "chat.completion", "choices": [{"message": {"content": "fine"}}]})
        is None
    )


def test_events_without_empty_lines_are_stamped_by_their_own_lines() -> None:
    lines = [
        part.rstrip() + b"\n"
        for part in (said("a"), said("b"), said("c"), said(None, "stop"), DONE)
    ]
    reply = read(*lines)
    assert reply.verdict(200, None, "") == (None, None)
    assert (reply.text, reply.chunk_at_ns, reply.notes()) == ("abc", [100, 200, 300], ["run_on"])
    together = read(b"".join(lines))
    assert (together.text, together.chunk_at_ns, together.notes()) == (
        "abc",
        [100, 100, 100],
        ["run_on"],
    )


def counted(*counts: Any, total: Any = None, prompt: Any = 5) -> Any:
    """A stream with these counts beside its chunks, and a last chunk with the total unless None."""
    chunks = [
        said("x") if count is None else said("x", usage=usage(prompt, count)) for count in counts
    ]
    return read(
        *chunks,
        said(None, "stop"),
        *([] if total is None else [event(choices=[], usage=usage(prompt, total))]),
        DONE,
    )


@pytest.mark.parametrize(
    ("counts", "total", "tokens", "output", "notes"),
    [
        ([1, 2, 3], 4, [1, 1, 1], 4, []),  # running, the end token has no text
        ([2, 5, 6], 6, [2, 3, 1], 6, []),
        ([None, 2, None, 4], 4, [1, 1, 1, 1], 4, []),
        ([3, 3, 4], 5, [3, 0, 1], 5, []),
        ([1, 2, 3], None, [1, 1, 1], 3, []),
        ([7], None, [7], 7, []),
        ([1, 1, 1, 1], 4, [1, 1, 1, 1], 4, []),  # each chunk's own
        ([2, 3, 1], 7, [2, 3, 1], 7, []),
        ([1, 2, 3], 6, [1, 2, 3], 6, []),
        (
            [1, 1, 1, 1],
            None,
            [1, 1, 1, 1],
            None,
            ["usage_odd"],
        ),  # each its own, and nobody says the total
        ([8, 5], None, [1, 1], 5, ["usage_odd"]),  # falls
        ([8, 5], 5, [1, 1], 5, ["usage_odd"]),
        ([3, 6, 9], 5, [1, 1, 1], 5, ["usage_odd"]),  # beyond the total
        ([0, 0, 0], 3, [1, 1, 1], 3, []),  # zeros until the last
        ([0, 0, 0], 0, [1, 1, 1], None, ["usage_zero"]),
        ([0, 0, 0], None, [1, 1, 1], None, ["usage_zero"]),
        ([1, 2, 3], 0, [1, 1, 1], 3, ["usage_zero"]),
        ([], 0, [], 0, []),
        ([], 3, [], 3, []),
        ([-4, 2], 2, [1, 1], 2, ["usage_odd"]),
        ([1, 10**9], 3, [1, 1], 3, ["usage_odd"]),
        ([None, None], -3, [1, 1], None, ["usage_odd"]),
        ([None, None], 10**30, [1, 1], None, ["usage_odd"]),
        ([None, None], 10**9, [1, 1], None, ["usage_odd"]),
        ([None, None], 4.0, [1, 1], 4, []),
        ([None, None], "4", [1, 1], 4, []),
        ([None, None], 4.5, [1, 1], None, ["usage_odd"]),
        ([None, None], True, [1, 1], None, ["usage_odd"]),
        ([None, None], "many", [1, 1], None, ["usage_odd"]),
        ([None, None], float("nan"), [1, 1], None, ["usage_odd"]),
        ([None, None], float("inf"), [1, 1], None, ["usage_odd"]),
        ([None, None], [4], [1, 1], None, ["usage_odd"]),
        ([1.0, 2.0], 2.0, [1, 1], 2, []),
    ],
)
def test_counts_that_can_be_believed(
    counts: list[Any], total: Any, tokens: list[int], output: int | None, notes: list[str]
) -> None:
    reply = counted(*counts, total=total)
    assert reply.verdict(200, None, "") == (None, None)
    reply_tokens = reply.tokens()
    assert (reply_tokens.chunks, reply_tokens.output, reply_tokens.notes) == (tokens, output, notes)


@pytest.mark.parametrize(
    ("prompt", "believed", "notes"),
    [(5, 5, []), (0, None, ["usage_zero"]), (-1, None, ["usage_odd"])],
)
def test_a_prompt_has_tokens(prompt: int, believed: int | None, notes: list[str]) -> None:
    reply_tokens = counted(total=3, prompt=prompt).tokens()
    assert (reply_tokens.input, reply_tokens.output, reply_tokens.notes) == (believed, 3, notes)


@pytest.mark.parametrize(
    ("cached", "believed"),
    [(0, 0), (5, 5), (6, None), (-1, None), (True, None), ("3", 3), (None, None)],
)
def test_no_more_of_a_prompt_is_cached_than_it_has(cached: object, believed: int | None) -> None:
    counts = usage(5, 1) | {"prompt_tokens_details": {"cached_tokens": cached}}
    reply_tokens = read(
        said("a"), said(None, "stop"), event(choices=[], usage=counts), DONE
    ).tokens()
    assert reply_tokens.cached == believed
    assert ("usage_odd" in reply_tokens.notes) == (believed is None and cached is not None)


def compressed(data: bytes, window: int, pieces: int = 7) -> list[bytes]:
    packer = zlib.compressobj(wbits=window)
    packed = packer.compress(data) + packer.flush()
    return [packed[i : i + pieces] for i in range(0, len(packed), pieces)]


@pytest.mark.parametrize(
    ("coding", "window"),
    [(b"gzip", 31), (b"x-gzip", 31), (b"GZIP", 31), (b"deflate", 15), (b"deflate", -15)],
)
def test_compressed_bodies(coding: bytes, window: int) -> None:
    plain = said("a") * 50 + END
    packed = inflater(coding)
    assert packed is not None
    assert b"".join(packed.take_off(compressed(plain, window))) == plain and packed.wrong is None


def test_what_is_not_compressed_as_it_says() -> None:
    assert inflater(b"") is inflater(b"identity") is None
    for coding, data in (
        (b"gzip", b"data: plain\n\n"),
        (b"deflate", b"\x78\xffjunk"),
        (b"br", b"x"),
        (b"gzip, gzip", b"x"),
    ):
        packed = inflater(coding)
        assert packed is not None
        packed.take_off([data, data])
        assert packed.wrong
