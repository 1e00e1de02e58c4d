"""Puts one streamed answer together: when each content chunk came, its text, and how the stream
ended.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from foundation.run.records import ENDS_WELL, Failure, Note
from loadgen.protocol.chunk import Chunk, Usage, decode_chunk, says_more
from loadgen.protocol.chunk_token_counts import is_count, tokens_of_chunks
from loadgen.protocol.lenient_parser import (
    MalformedEvent,
    error_in,
    excerpt,
    read_chunk,
    repaired,
    whole_json,
)
from loadgen.protocol.sse import BARE, SseParser

_HEAD_LENGTH = 512
_DONE = b"[DONE]"
_STREAM_STARTS = (b"data", b"event", b"id:", b"retry", b":", b"error:", b"\xef\xbb\xbf")
_LONGEST_EVENT = 32 * 1024 * 1024
_LONGEST_REASON = 200


class Reply:
    """Takes the body of one response in order. Pieces bring their stamps, so they can be fed late.

    No input makes it raise. `chunk_at_ns`: arrival of each content chunk (CLOCK_MONOTONIC). The
    tokens of a chunk are the count in the usage beside it, else 1. Tokens without text (an end
    token) are in no chunk, so their sum may be below `output_tokens`. It is far below where chunks
    carried several tokens and the server did not say so.
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
        # Arrival and reading time of the last piece, and of the line end that the held bytes end
        # with.
        self._last_at = 0, 0
        self._line_at: tuple[int, int] | None = None
        # With several choices: the one that spoke last, the texts of each, the finish reason of
        # each.
        self._choice: int | None = None
        self._texts: list[str] = []
        self._texts_of: dict[int, list[str]] = {}
        self._reasons: dict[int, str] = {}
        # Output tokens in the usage beside each content chunk, and the latest usage.
        self._counts: list[int | None] = []
        self._usage = Usage()
        self._input_tokens: int | None = None
        self._odd_usage = False

    def feed(self, pieces: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        """Takes the next pieces, their arrivals, and when the event loop had them.

        The two times are the same where the clock is the user's.
        """
        if len(self._head) < _HEAD_LENGTH:
            self._head += b"".join(pieces)[: _HEAD_LENGTH - len(self._head)]
        if pieces:
            self._last_at = arrived_ns[len(pieces) - 1], read_ns[len(pieces) - 1]
        at = 0
        while at < len(pieces):
            if data := self._sse.take_whole(pieces, at):
                self._take_events(
                    data, arrived_ns[at : at + len(data)], read_ns[at : at + len(data)]
                )
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
            # When events start to run on, the beginning of the next event ends one that came
            # earlier.
            late = not number and not ran_on and self._sse.run_on
            self._take_event(kind, payload, *((self._line_at or at) if late else at))
        if self._sse.ends_line:
            self._line_at = at
        elif events:
            self._line_at = None

    def _take_events(self, data: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        """Takes events without a type."""
        try:
            chunks = list(map(decode_chunk, data))
        # One of them is malformed, or is [DONE].
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            for payload, arrived, read in zip(data, arrived_ns, read_ns, strict=True):
                self._take_event(b"", payload, arrived, read)
        else:
            self._events += len(data)
            self._take_chunks(chunks, data, arrived_ns, read_ns)

    def _take_event(self, kind: bytes, payload: bytes, arrived_ns: int, read_ns: int) -> None:
        """Takes one event of any kind."""
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
                self._take_leniently(kind, payload, arrived_ns, read_ns)
            else:
                self._take_chunks([chunk], [payload], [arrived_ns], [read_ns])

    def _take_leniently(self, kind: bytes, payload: bytes, arrived_ns: int, read_ns: int) -> None:
        try:
            chunk, odd_usage = read_chunk(payload)
        except MalformedEvent as problem:
            if kind in (b"", b"message"):  # no other kind is part of the answer
                self.malformed = self.malformed or f"{problem}: {excerpt(payload)}"
            return
        self._odd_usage |= odd_usage
        self._take_chunks([chunk], [b""], [arrived_ns], [read_ns])

    def _take_chunks(
        self, chunks: list[Chunk], data: list[bytes], arrived_ns: list[int], read_ns: list[int]
    ) -> None:
        """Takes chunks. `data`: the bytes of each, empty for one that was read leniently."""
        current, latest = self._choice, None
        at_ns, lag_ns, counts = self.chunk_at_ns, self.chunk_lag_ns, self._counts
        for chunk, payload, arrived, read in zip(chunks, data, arrived_ns, read_ns, strict=True):
            usage = chunk.usage
            for choice in chunk.choices or ():
                if choice.index != current:
                    current = choice.index
                    self._switch_choice(current)
                delta = choice.delta
                text = choice.text if delta is None else delta.content
                if text or (delta is not None and (delta.reasoning or delta.reasoning_content)):
                    at_ns.append(arrived)
                    lag_ns.append(read - arrived)
                    counts.append(usage.completion_tokens if usage else None)
                    if text:
                        self._texts.append(text)
                elif says_more(payload):
                    self._take_leniently(b"", payload, arrived, read)
                    break
                if choice.finish_reason is not None:
                    self._end_choice(choice.index, choice.finish_reason)
            if usage:
                latest = usage
            if chunk.error:
                self.error = self.error or chunk.error
            if chunk.metrics is not None:
                self.server_metrics = chunk.metrics
        if latest is not None:
            self._usage = latest
            self._input_tokens = latest.prompt_tokens or self._input_tokens

    def _switch_choice(self, index: int) -> None:
        self._choice = index
        self._texts = self._texts_of.setdefault(index, [])

    def _end_choice(self, index: int, reason: str) -> None:
        """Records a finish reason. The last one counts, but a bad one stays.

        Some servers repeat a reason, or write an empty one into every chunk.
        """
        before = self._reasons.get(index)
        if not before or (reason and before in ENDS_WELL):
            self._reasons[index] = reason[:_LONGEST_REASON]

    @property
    def ended_at_ns(self) -> int | None:
        """The arrival of `[DONE]` or, without it, of the last piece of the body."""
        return self.done_at_ns or self._last_at[0] or None

    @property
    def text(self) -> str:
        """The text of the first choice. Thoughts and tool calls count only for their time."""
        return repaired("".join(next(iter(self._texts_of.values()), [])))

    @property
    def only_text(self) -> bool:
        """Whether all content is in `text`."""
        return len(next(iter(self._texts_of.values()), [])) == len(self.chunk_at_ns)

    @property
    def finish_reason(self) -> str | None:
        """The first choice's finish reason or, of several, one that does not end well."""
        reasons = list(self._reasons.values())
        bad = [reason for reason in reasons if reason not in ENDS_WELL]
        return next(iter(bad or reasons), None)

    @property
    def complete(self) -> bool:
        """Whether every choice with content ended well."""
        ends = [self._reasons.get(index) in ENDS_WELL for index in self._texts_of]
        return bool(ends) and all(ends)

    def close(self) -> None:
        """Ends the body. The last event counts even if the empty line after it is missing."""
        last = self._sse.last_line()
        if last.strip() == _DONE or (last and isinstance(whole_json(last), dict)):
            self._sse.drop()
            self._take_event(b"", last, *self._last_at)

    def notes(self) -> list[Note]:
        """Oddities of a successful answer, except those of its counts."""
        notes: list[Note] = []
        if self.done_at_ns is None:
            notes.append("no_done")
        if self._sse.run_on:
            notes.append("run_on")
        if "\ufffd" in self.text:
            notes.append("bad_text")
        return notes

    def tokens(self) -> TokenCounts:
        """The credible counts. Call it when the body is over."""
        usage, has_content = self._usage, bool(self.chunk_at_ns)
        # A prompt has tokens, and so has text: zero means that the server never filled in the
        # count.
        zero = usage.prompt_tokens == 0 or (has_content and usage.completion_tokens == 0)
        output = usage.completion_tokens
        if has_content and not output:
            output = next(filter(None, reversed(self._counts)), None)
        details = usage.prompt_tokens_details
        counts = [self._input_tokens, output, None if details is None else details.cached_tokens]
        credible = [count if is_count(count) else None for count in counts]
        chunks, agree = tokens_of_chunks(self._counts, credible[1])
        if not agree and credible[1] is not None and credible[1] < len(chunks):
            credible[1] = None
        if credible[2] is not None and credible[2] > (credible[0] or 0):
            credible[2] = None
        notes: list[Note] = ["usage_zero"] if zero else []
        if self._odd_usage or not agree or credible != counts:
            notes.append("usage_odd")
        return TokenCounts(chunks, notes, *credible)

    def verdict(
        self, status: int | None, broken: Failure | None, detail: str
    ) -> tuple[Failure | None, str | None]:
        """The failure class and its text, or (None, None) for a success, as metrics.md defines it.

        `broken`: how the transport or a deadline ended the exchange. None where the HTTP message
        ended properly.
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
            return broken, repaired(detail)[:_HEAD_LENGTH]
        return self._unfinished()

    def _unfinished(self) -> tuple[Failure, str]:
        """The failure of a body that ended properly in HTTP and yet holds no whole answer."""
        held = self._sse.held.strip()
        if not self._events and (error := error_in(whole_json(held))):
            return "stream_error", error
        if self._head and not self._events and not self._head.startswith(_STREAM_STARTS):
            return "malformed", f"no event stream: {excerpt(self._head)}"
        if held and not any(self._reasons.values()):
            return "truncated", "the stream ended in the middle of an event"
        if self.finish_reason is None:
            return "aborted", "the stream ended without a finish reason"
        if not self.finish_reason:
            return "aborted", "the answer ended with an empty finish_reason"
        return "aborted", "one of its choices ended without a finish reason"


class TokenCounts(NamedTuple):
    """Tokens of one answer.

    `chunks`: output tokens of each content chunk. `input`, `output`, `cached`: counts of the
    server's usage, None without a credible one.
    """

    chunks: list[int]
    notes: list[Note]
    input: int | None
    output: int | None
    cached: int | None
