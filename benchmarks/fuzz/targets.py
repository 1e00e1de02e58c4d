"""What holds for any input: nothing raises, cuts change nothing, counts are counts, garbage fails.

A target takes bytes. The first ones say how the rest is cut into pieces, or what it is made of.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.fuzz.data_targets import DATA_TARGETS
from benchmarks.fuzz.reference import events_of, may_succeed, unchunked
from foundation.errors import BadInput
from foundation.run.engine_records import read_engine_records
from foundation.run.journal import Journal, read_journal, read_prompts
from foundation.run.records import MOST_TOKENS, Failure, RequestRecord
from loadgen.protocol.reply import Reply
from loadgen.protocol.sse import SseParser, whole_events, whole_events_in_python
from loadgen.transport.chunked_coding import ChunkedDecoder, whole_chunks, whole_chunks_in_python
from loadgen.transport.content_coding import Inflater
from loadgen.transport.head import parse_head

_KEPT = tempfile.TemporaryDirectory(prefix="fuzz-")
_FOLDER = Path(_KEPT.name)

BROKEN: tuple[Failure | None, ...] = ("reset", None)

# A byte stands for one of these, so that most inputs are almost streams.
FRAGMENTS = [
    b"data: ", b"data:", b"event: error", b"event: ping", b"error: ", b"id: 1", b"retry: 5", b": ",
    b"\n", b"\n\n", b"\r\n", b"\r", b"[DONE]", b"data: [DONE]\n\n", b"\xef\xbb\xbf",
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"true", b"NaN", b"1e999", b"-1",
    b"99999999999999999999", b"0", b"7", b" ", b"\\", b"\xff", b"\xf0\x9f", b"\\ud83d", b"\\ude42",
    b'"choices"', b'"delta"', b'"content"', b'"text"',
    b'"finish_reason"', b'"stop"', b'"abort"', b'"tool_calls"', b'"usage"', b'"error"',
    b'"message"', b'{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}',
    b'{"choices": [{"index": 1, "delta": {"content": "b"}}]}',
    b'{"choices": [{"delta": {"content": "a"}}], '
    b'"usage": {"prompt_tokens": 5, "completion_tokens": 2}}',
    b'{"choices": [{"delta": {}, "finish_reason": "stop"}]}',
    b'{"choices": [{"delta": {}, "finish_reason": "abort"}]}',
    b'{"choices": [{"delta": {}, "finish_reason": ""}]}',
    b'{"choices": [{"text": "a", "finish_reason": "length"}]}',
    b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9}}',
    b'{"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}, '
    b'"metrics": {"queue_time_ms": 1}}',
    b'{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "x"}}]}}]}',
    b'{"choices": [{"delta": {"content": [{"type": "text", "text": "a"}]}}]}',
    b'{"error": {"message": "died"}}', b'{"object": "error", "message": "died"}',
    b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n',
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n',
    b"x" * 50,
]  # fmt: skip


def _pieces(data: bytes) -> list[bytes]:
    """The bytes after the first, in pieces of the length it gives; 0 cuts after each empty line."""
    size, body = data[0] % 64 if data else 1, data[1:]
    if size:
        return [body[at : at + size] for at in range(0, len(body), size)]
    *whole, rest = body.split(b"\n\n")
    return [part + b"\n\n" for part in whole] + ([rest] if rest else [])


def _fragments(data: bytes) -> bytes:
    return data[:1] + b"".join(FRAGMENTS[byte % len(FRAGMENTS)] for byte in data[1:40])


def sse(data: bytes) -> None:
    """An event stream is read as the reference reads it, however it is cut."""
    pieces = _pieces(data)
    body = b"".join(pieces)
    parser = SseParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    assert events == events_of(body), "not the events of the standard"
    assert whole_events(pieces, 0) == whole_events_in_python(pieces, 0), (
        "the two readers of whole events differ"
    )


def reply(data: bytes) -> None:
    """A reply has the same outcome however it is cut, and garbage never succeeds."""
    pieces = _pieces(data)
    alone, together = _read(pieces, 1), _read([b"".join(pieces)], 9)
    batched = _read(pieces, 9)
    for broken in BROKEN:
        verdict = alone.verdict(200, broken, "detail")
        assert verdict == batched.verdict(200, broken, "detail"), "a batch changes the verdict"
        assert verdict == together.verdict(200, broken, "detail"), "a cut changes the verdict"
        if verdict == (None, None):
            assert may_succeed(b"".join(pieces)), "success from garbage"
    record = _record(alone, verdict)
    assert msgspec.json.decode(msgspec.json.encode(record), type=RequestRecord) == record, (
        "no journal holds it"
    )
    assert (
        alone.text == together.text and alone.tokens() == together.tokens() == batched.tokens()
    ), "a cut changes the answer"


def reply_of_fragments(data: bytes) -> None:
    """`reply` on bytes that are joined from known fragments."""
    reply(_fragments(data))


def sse_of_fragments(data: bytes) -> None:
    """`sse` on bytes that are joined from known fragments."""
    sse(_fragments(data))


def _read(pieces: list[bytes], batch: int) -> Reply:
    answer = Reply()
    for first in range(0, len(pieces), batch):
        part = pieces[first : first + batch]
        times = list(range(first + 1, first + 1 + len(part)))
        answer.feed(part, times, times)
    answer.close()
    return answer


def _record(answer: Reply, verdict: tuple[Failure | None, str | None]) -> RequestRecord:
    tokens = answer.tokens()
    counts = [
        *tokens.chunks,
        *(count for count in (tokens.input, tokens.output, tokens.cached) if count is not None),
    ]
    assert all(0 <= count <= MOST_TOKENS for count in counts), "a count that is none"
    assert len(tokens.chunks) == len(answer.chunk_at_ns)
    assert tokens.output is None or tokens.output or not answer.chunk_at_ns, "no token beside text"
    return RequestRecord(
        id=1, prompt_id="q", scheduled_ns=0, chunk_ns=answer.chunk_at_ns,
        chunk_tokens=tokens.chunks, failure=verdict[0], finish_reason=answer.finish_reason,
        error=verdict[1], input_tokens=tokens.input, output_tokens=tokens.output,
        text=answer.text, server_metrics=answer.server_metrics, cached_tokens=tokens.cached,
        notes=[*answer.notes(), *tokens.notes] or None,
    )  # fmt: skip


def chunked(data: bytes) -> None:
    """A chunked body is decoded as the reference decodes it."""
    pieces = _pieces(data)
    stream = b"".join(pieces)
    cut, whole, right = ChunkedDecoder(), ChunkedDecoder(), unchunked(stream)
    bodies = b"".join(cut.take_off(pieces))
    assert (whole.take_off([stream]), whole.wrong) == ([bodies], None) or (
        whole.wrong and cut.wrong
    ), "a cut changes the body"
    if right is None:
        assert cut.wrong, "no chunked coding, and not noticed"
    elif not cut.wrong:
        assert (bodies, cut.finished) == right, "not what the body carries"
    assert whole_chunks(pieces, 0) == whole_chunks_in_python(pieces, 0), (
        "the two readers of whole chunks differ"
    )


def head(data: bytes) -> None:
    """A head of a response is read or refused."""
    try:
        read = parse_head(data)
    except ValueError:
        return
    assert data[:7] == b"HTTP/1." and int(data[9:12]) == read.status, "another status"
    assert read.length is None or (read.length >= 0 and not read.chunked)


def compressed(data: bytes) -> None:
    """A compressed body is decoded or refused."""
    pieces = _pieces(data)
    packed = Inflater((b"gzip", b"deflate", b"br")[data[0] % 3] if data else b"gzip")
    bodies = packed.take_off(pieces)
    assert len(bodies) == len(pieces) or packed.wrong


def journal(data: bytes) -> None:
    """A journal is read or refused."""
    file = _FOLDER / "block-01.jsonl"
    file.write_bytes(data)
    try:
        read = read_journal(file)
    except BadInput:
        return
    if isinstance(read, Journal):
        assert len(read.requests) + len(read.damage) <= data.count(b"\n") + 1, (
            "more requests than lines"
        )


def engine_record(data: bytes) -> None:
    """An engine record is read or refused, and no line of it counts twice."""
    folder = _FOLDER / "engine"
    folder.mkdir(exist_ok=True)
    (folder / "variant.jsonl").write_bytes(data)
    try:
        records = read_engine_records(folder)
    except BadInput:
        return
    assert len(records) + records.left_out.lines <= data.count(b"\n") + 1, "more than its lines"
    keys = set(zip(records.origin.tolist(), records.number.tolist(), strict=True))
    assert len(keys) == len(records), "a request counts twice"


def prompts(data: bytes) -> None:
    """A file of prompts is read or refused."""
    (_FOLDER / "prompts.jsonl").write_bytes(data)
    try:
        read_prompts(_FOLDER)
    except BadInput:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        sse,
        sse_of_fragments,
        reply,
        reply_of_fragments,
        chunked,
        head,
        compressed,
        journal,
        engine_record,
        prompts,
    )
} | DATA_TARGETS
