"""One streamed answer, put together from stamped bytes: when each content chunk came, what it said, how it ended."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from foundation.run.records import ENDS_WELL, Failure, Note
from loadgen.protocol.chunk import Chunk, Usage, decode_chunk, says_more
from loadgen.protocol.chunk_token_counts import is_count, tokens_of_chunks
from loadgen.protocol.lenient import Odd, error_in, excerpt, mended, read_chunk, whole_json
from loadgen.protocol.sse import BARE, SseParser

_HEAD = 512
_DONE = b"[DONE]"
_FIELDS = (b"data", b"event", b"id:", b"retry", b":", b"error:", b"\xef\xbb\xbf")
_LONGEST_EVENT = 32 * 1024 * 1024
_LONGEST_REASON = 200


class Reply:
    """Feed it the body of one response in order; it can be fed late, since the bytes bring their stamps along.

    Nothing that a server sends makes it raise. `chunk_at_ns`: arrival of each content chunk (CLOCK_MONOTONIC). The tokens of a
    chunk are those that the usage beside it tells, else 1. Tokens without text (an end token) are in no chunk, so their sum may
    be below `output_tokens`; where chunks carried several tokens and the server did not say so, it is far below.
    """

    def __init__(self) -> None:
        self.chunk_at_ns: list[int] = []
        self.chunk_lag_ns: list[int] = []
        self.server_metrics: dict[str, Any] | None = None
        self.done_at_ns: int | None = None
        self.error: str | None = None
        self.malformed: str | None = None
        self._sse = SseParser()
        self._events = 0
        self._head = b""
        # When the last piece came, and was read; when the line came that ends what is held.
        self._last_at = 0, 0
        self._line_at: tuple[int, int] | None = None
        # Of several choices: which one spoke last, the texts of each, the reason for which each ended.
        self._choice: int | None = None
        self._texts: list[str] = []
        self._texts_of: dict[int, list[str]] = {}
        self._reasons: dict[int, str] = {}
        # Output tokens as the usage beside each content chunk told them, and the usage that came last.
        self._counts: list[int | None] = []
        self._usage = Usage()
        self._input_tokens: int | None = None
        self._odd_usage = False

    def feed(self, pieces: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        """The next pieces, their arrivals, and when the event loop had them (the same where the clock is the user's)."""
        if len(self._head) < _HEAD:
            self._head += b"".join(pieces)[: _HEAD - len(self._head)]
        if pieces:
            self._last_at = arrived_ns[len(pieces) - 1], read_ns[len(pieces) - 1]
        at = 0
        while at < len(pieces):
            if data := self._sse.take_whole(pieces, at):
                self._hear_all(data, arrived_ns[at : at + len(data)], read_ns[at : at + len(data)])
                at += len(data)
            else:
                self._feed_one(pieces[at], arrived_ns[at], read_ns[at])
                at += 1
        if self._sse.held_bytes > _LONGEST_EVENT:
            self._sse.drop()
            self.malformed = self.malformed or f"an event of more than {_LONGEST_EVENT} bytes"

    def _feed_one(self, piece: bytes, arrived_ns: int, read_ns: int) -> None:
        ran_on = self._sse.run_on
        events = self._sse.feed(piece)
        at = arrived_ns, read_ns
        for number, (kind, payload) in enumerate(events):
            # Where events first run on, the end of one is known only with the beginning of the next.
            late = not number and not ran_on and self._sse.run_on
            self._hear(kind, payload, *((self._line_at or at) if late else at))
        if self._sse.ends_line:
            self._line_at = at
        elif events:
            self._line_at = None

    def _hear_all(self, data: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        """Events without a type."""
        try:
            chunks = list(map(decode_chunk, data))
        except (
            msgspec.MsgspecError,
            UnicodeDecodeError,
            RecursionError,
        ):  # one is odd, or [DONE] is among them
            for payload, arrived, read in zip(data, arrived_ns, read_ns, strict=True):
                self._hear(b"", payload, arrived, read)
        else:
            self._events += len(data)
            self._take(chunks, data, arrived_ns, read_ns)

    def _hear(self, kind: bytes, payload: bytes, arrived_ns: int, read_ns: int) -> None:
        """One event of any kind."""
        if kind == BARE:
            self.error = self.error or error_in(whole_json(payload))
            return
        self._events += 1
        if kind == b"error":
            self.error = self.error or excerpt(payload) or "an error event without words"
        elif (stripped := payload.strip()) == _DONE:
            self.done_at_ns = self.done_at_ns or arrived_ns
        elif stripped:
            try:
                chunk = decode_chunk(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._hear_odd(kind, payload, arrived_ns, read_ns)
            else:
                self._take([chunk], [payload], [arrived_ns], [read_ns])

    def _hear_odd(self, kind: bytes, payload: bytes, arrived_ns: int, read_ns: int) -> None:
        try:
            chunk, odd_usage = read_chunk(payload)
        except Odd as problem:
            if kind in (b"", b"message"):  # others are not part of the answer
                self.malformed = self.malformed or f"{problem}: {excerpt(payload)}"
            return
        self._odd_usage |= odd_usage
        self._take([chunk], [b""], [arrived_ns], [read_ns])

    def _take(
        self, chunks: list[Chunk], data: list[bytes], arrived_ns: list[int], read_ns: list[int]
    ) -> None:
        """`data`: what the chunks were decoded from, empty where it was read leniently."""
        current, latest = self._choice, None
        at_ns, lag_ns, counts = self.chunk_at_ns, self.chunk_lag_ns, self._counts
        for chunk, payload, arrived, read in zip(chunks, data, arrived_ns, read_ns, strict=True):
            usage = chunk.usage
            for choice in chunk.choices or ():
                if choice.index != current:
                    current = choice.index
                    self._turn_to(current)
                delta = choice.delta
                said = choice.text if delta is None else delta.content
                if said or (delta is not None and (delta.reasoning or delta.reasoning_content)):
                    at_ns.append(arrived)
                    lag_ns.append(read - arrived)
                    counts.append(usage.completion_tokens if usage else None)
                    if said:
                        self._texts.append(said)
                elif says_more(payload):
                    self._hear_odd(b"", payload, arrived, read)
                    break
                if choice.finish_reason is not None:
                    self._end(choice.index, choice.finish_reason)
            if usage:
                latest = usage
            if chunk.error:
                self.error = self.error or chunk.error
            if chunk.metrics is not None:
                self.server_metrics = chunk.metrics
        if latest is not None:
            self._usage = latest
            self._input_tokens = latest.prompt_tokens or self._input_tokens

    def _turn_to(self, index: int) -> None:
        self._choice = index
        self._texts = self._texts_of.setdefault(index, [])

    def _end(self, index: int, reason: str) -> None:
        """Some servers repeat a reason, or write an empty one into every chunk: the last counts, but a bad one is not undone."""
        before = self._reasons.get(index)
        if not before or (reason and before in ENDS_WELL):
            self._reasons[index] = reason[:_LONGEST_REASON]

    @property
    def ended_at_ns(self) -> int | None:
        """When `[DONE]` came or, without it, the last piece of the body."""
        return self.done_at_ns or self._last_at[0] or None

    @property
    def text(self) -> str:
        """What the first choice said. Thoughts and tool calls are content in time, not in text."""
        return mended("".join(next(iter(self._texts_of.values()), [])))

    @property
    def only_text(self) -> bool:
        """Whether `text` is all that came."""
        return len(next(iter(self._texts_of.values()), [])) == len(self.chunk_at_ns)

    @property
    def finish_reason(self) -> str | None:
        """The first choice's, or, of several, one that does not end well."""
        reasons = list(self._reasons.values())
        bad = [reason for reason in reasons if reason not in ENDS_WELL]
        return next(iter(bad or reasons), None)

    @property
    def complete(self) -> bool:
        """Every choice that spoke said that it ends well."""
        ends = [self._reasons.get(index) in ENDS_WELL for index in self._texts_of]
        return bool(ends) and all(ends)

    def close(self) -> None:
        """The body is over. Servers that leave out the empty line after the last event are forgiven."""
        last = self._sse.last_line()
        if last.strip() == _DONE or (last and isinstance(whole_json(last), dict)):
            self._sse.drop()
            self._hear(b"", last, *self._last_at)

    def notes(self) -> list[Note]:
        """What is odd about an answer that succeeded, less what its counts say."""
        found: list[Note] = []
        if self.done_at_ns is None:
            found.append("no_done")
        if self._sse.run_on:
            found.append("run_on")
        if "\ufffd" in self.text:
            found.append("bad_text")
        return found

    def tokens(self) -> Tokens:
        """The counts that can be believed; to be asked when the body is over."""
        usage, spoke = self._usage, bool(self.chunk_at_ns)
        # A prompt has tokens, and so has text: such zeros are places that were never filled in.
        zero = usage.prompt_tokens == 0 or (spoke and usage.completion_tokens == 0)
        output = usage.completion_tokens
        if spoke and not output:
            output = next(filter(None, reversed(self._counts)), None)
        details = usage.prompt_tokens_details
        counts = [self._input_tokens, output, None if details is None else details.cached_tokens]
        believed = [count if is_count(count) else None for count in counts]
        chunks, agree = tokens_of_chunks(self._counts, believed[1])
        if not agree and believed[1] is not None and believed[1] < len(chunks):
            believed[1] = None
        if believed[2] is not None and believed[2] > (believed[0] or 0):
            believed[2] = None
        notes: list[Note] = ["usage_zero"] if zero else []
        if self._odd_usage or not agree or believed != counts:
            notes.append("usage_odd")
        return Tokens(chunks, notes, *believed)

    def verdict(
        self, status: int | None, broken: Failure | None, detail: str
    ) -> tuple[Failure | None, str | None]:
        """Failure class and its words, or (None, None) for a success, as metrics.md defines it.

        `broken` is how the transport or a deadline ended the exchange, None where the HTTP message ended as it should.
        """
        if status is not None and status != 200:
            failure: Failure = (
                "http_4xx" if 400 <= status < 500 else "http_5xx" if status >= 500 else "malformed"
            )
            return failure, f"HTTP {status}: {excerpt(self._head)}"
        if self.error is not None:
            return "stream_error", self.error
        if self.malformed is not None:
            return "malformed", self.malformed
        reason, whole = self.finish_reason, broken is None or self.done_at_ns is not None
        if reason and reason not in ENDS_WELL:
            return "aborted", f"the answer ended with finish_reason {excerpt(reason)!r}"
        if whole and self.complete:
            return None, None
        if broken is not None and not whole:
            return broken, mended(detail)[:_HEAD]
        return self._unfinished()

    def _unfinished(self) -> tuple[Failure, str]:
        """A body that ended as HTTP has it, without a reason to believe that the answer is whole."""
        held = self._sse.held.strip()
        if not self._events and (error := error_in(whole_json(held))):
            return "stream_error", error
        if self._head and not self._events and not self._head.startswith(_FIELDS):
            return "malformed", f"no event stream: {excerpt(self._head)}"
        if held and not any(self._reasons.values()):
            return "truncated", "the stream ended in the middle of an event"
        if self.finish_reason is None:
            return "aborted", "the stream ended without a finish reason"
        if not self.finish_reason:
            return "aborted", "the answer ended with an empty finish_reason"
        return "aborted", "one of its choices ended without a finish reason"


class Tokens(NamedTuple):
    """`chunks`: output tokens of each content chunk; the counts of the server's usage, None where it gives none to believe."""

    chunks: list[int]
    notes: list[Note]
    input: int | None
    output: int | None
    cached: int | None
