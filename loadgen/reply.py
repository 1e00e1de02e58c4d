"""One streamed answer, put together from stamped bytes: when each content chunk came, what it said, how it ended."""

from __future__ import annotations

from typing import Any

import msgspec

from loadgen.openai import Chunk, decode_chunk
from loadgen.sse import SseParser
from results.records import Failure

_HEAD = 512
_DONE = b"[DONE]"
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


class Reply:
    """Feed it the body of one response in order; it can be fed late, since the bytes bring their stamps along.

    `chunk_at_ns`: arrival of each content chunk (CLOCK_MONOTONIC), `chunk_tokens` what it carried: by the server's running count
    where it gives one, else 1. Tokens without text (an end token) are in no chunk, so the sum may be below `output_tokens`;
    where chunks carried several tokens and the server did not say so, it is far below.
    """

    def __init__(self) -> None:
        self.chunk_at_ns: list[int] = []
        self.chunk_lag_ns: list[int] = []
        self.chunk_tokens: list[int] = []
        self.finish_reason: str | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.server_metrics: dict[str, Any] | None = None
        self.done_at_ns: int | None = None
        self.error: str | None = None
        self.malformed: str | None = None
        self._texts: list[str] = []
        self._sse = SseParser()
        self._events = 0
        self._counted = 0
        self._head = b""

    def feed(self, pieces: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        """The next pieces, their arrivals, and when the event loop had them (the same where the clock is the user's)."""
        if len(self._head) < _HEAD:
            self._head += b"".join(pieces)[: _HEAD - len(self._head)]
        at = 0
        while at < len(pieces):
            if data := self._sse.take_whole(pieces, at):
                self._hear_all(data, arrived_ns[at : at + len(data)], read_ns[at : at + len(data)])
                at += len(data)
            else:
                for kind, payload in self._sse.feed(pieces[at]):
                    self._hear(kind, payload, arrived_ns[at], read_ns[at])
                at += 1

    def _hear_all(self, data: list[bytes], arrived_ns: list[int], read_ns: list[int]) -> None:
        """Events without a type."""
        try:
            chunks = list(map(decode_chunk, data))
        except (msgspec.MsgspecError, UnicodeDecodeError):  # or [DONE] is among them
            for payload, arrived, read in zip(data, arrived_ns, read_ns, strict=True):
                self._hear(b"", payload, arrived, read)
        else:
            self._events += len(data)
            self._take(chunks, arrived_ns, read_ns)

    def _hear(self, kind: bytes, payload: bytes, arrived_ns: int, read_ns: int) -> None:
        """One event of any kind."""
        self._events += 1
        if payload == _DONE:
            self.done_at_ns = arrived_ns
        elif kind == b"error":
            self.error = self.error or _excerpt(payload)
        else:
            try:
                chunk = decode_chunk(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
                self.malformed = self.malformed or f"{problem}: {_excerpt(payload)}"
            else:
                self._take([chunk], [arrived_ns], [read_ns])

    def _take(self, chunks: list[Chunk], arrived_ns: list[int], read_ns: list[int]) -> None:
        for chunk, arrived, read in zip(chunks, arrived_ns, read_ns, strict=True):
            usage = chunk.usage
            for choice in chunk.choices or ():
                delta = choice.delta
                said = choice.text if delta is None else delta.content
                if said or (delta is not None and (delta.reasoning or delta.reasoning_content)):
                    tokens = 1
                    if usage is not None and usage.completion_tokens is not None:
                        tokens = usage.completion_tokens - self._counted
                    self._counted += tokens
                    self.chunk_at_ns.append(arrived)
                    self.chunk_lag_ns.append(read - arrived)
                    self.chunk_tokens.append(tokens)
                    if said:
                        self._texts.append(said)
                if choice.finish_reason is not None:
                    self.finish_reason = choice.finish_reason
            if usage is not None:
                self.input_tokens, self.output_tokens = usage.prompt_tokens, usage.completion_tokens
                if usage.prompt_tokens_details is not None:
                    self.cached_tokens = usage.prompt_tokens_details.cached_tokens
            if chunk.error is not None:
                self.error = self.error or _excerpt(msgspec.json.encode(chunk.error))
            if chunk.metrics is not None:
                self.server_metrics = chunk.metrics

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def complete(self) -> bool:
        return self.finish_reason is not None and self.done_at_ns is not None

    def close(self, at_ns: int) -> None:
        """The body is over. Servers that leave out the empty line after `[DONE]` are forgiven."""
        if self._sse.held.strip() == b"data: " + _DONE:
            self.done_at_ns = at_ns

    def verdict(self, status: int | None, broken: Failure | None, detail: str) -> tuple[Failure | None, str | None]:
        """Failure class and its words, or (None, None) for a success, as metrics.md defines it.

        `broken` is how the transport or a deadline ended the exchange, None where the HTTP message ended as it should.
        """
        if status is not None and status != 200:
            failure: Failure = "http_4xx" if 400 <= status < 500 else "http_5xx" if status >= 500 else "malformed"
            return failure, f"HTTP {status}: {_excerpt(self._head)}"
        if self.error is not None:
            return "stream_error", self.error
        if self.malformed is not None:
            return "malformed", self.malformed
        if self.complete:
            return None, None
        if broken is not None:
            return broken, detail[:_HEAD]
        if self._head and not self._events and not self._head.startswith(_FIELDS):
            return "malformed", f"no event stream: {_excerpt(self._head)}"
        missing = "[DONE]" if self.finish_reason is not None else "a finish reason"
        return "truncated", f"the stream ended without {missing}"


def _excerpt(data: bytes) -> str:
    return " ".join(data[:300].decode("utf-8", "replace").split())
