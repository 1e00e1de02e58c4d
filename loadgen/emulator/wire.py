"""The bytes of the emulator's answers: HTTP heads, chunked framing, events."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal EmulatorServer Error",
    503: "Unavailable",
}
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
STREAM_END = b"0\r\n\r\n"


def whole(status: int, body: bytes, kind: str = "application/json") -> bytes:
    """A response of known length."""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def promised(length: int) -> bytes:
    """The head of an event stream with a length."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode()


def chunk(body: bytes) -> bytes:
    """One piece in chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def event(data: Any) -> bytes:
    """One server-sent event with a JSON payload."""
    return (
        b"data: " + json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
    )


def word(token: int) -> str:
    """The text of the token with this index."""
    return f"t{token} "


class Stream:
    """The events of one answer, `step` tokens in each.

    `continuous`: usage in every event, as vLLM sends it on request. `cached_tokens`: of the prompt,
    known to a prefix cache; None where there is none.
    """

    def __init__(
        self, api: str, model: str, prompt_tokens: int, continuous: bool, step: int = 1
    ) -> None:
        self.api, self.model, self.prompt_tokens, self.continuous, self.step = (
            api,
            model,
            prompt_tokens,
            continuous,
            step,
        )
        self.cached_tokens: int | None = None
        # Without usage the same events serve every answer. Making them costs more than sending
        # them.
        self._frames: list[bytes] = [] if continuous else _frames(api, model, step)

    def role(self) -> bytes | None:
        """The event that only names the role, None for text completions."""
        return (
            self._event({"delta": {"role": "assistant", "content": ""}}, 0)
            if self.api == "chat"
            else None
        )

    def tokens(self, number: int) -> bytes:
        """The event with this number, framed."""
        frames = self._frames
        while len(frames) <= number:
            frames.append(self.partial(len(frames), self.step))
        return frames[number]

    def partial(self, number: int, count: int) -> bytes:
        """The event with this number and only `count` tokens, framed."""
        first = number * self.step
        text = "".join(word(token) for token in range(first, first + count))
        what = {"delta": {"content": text}} if self.api == "chat" else {"text": text}
        return chunk(self._event(what, first + count))

    def finish(self, tokens: int, reason: str) -> bytes:
        """The event with the finish reason."""
        return self._event({"delta": {}} if self.api == "chat" else {"text": ""}, tokens, reason)

    def usage(self, tokens: int, metrics: dict[str, float] | None) -> bytes:
        """The event with the usage, and with the request's times where there are any."""
        more = {} if metrics is None else {"metrics": metrics}
        return event({**self._base(), "choices": [], "usage": self._usage(tokens), **more})

    def _event(self, what: dict[str, Any], tokens: int, reason: str | None = None) -> bytes:
        usage = {"usage": self._usage(tokens)} if self.continuous else {}
        return event(
            {**self._base(), "choices": [{"index": 0, **what, "finish_reason": reason}], **usage}
        )

    def _base(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.api == "chat" else "text_completion"
        return {"id": "emulated", "object": kind, "created": 0, "model": self.model}

    def _usage(self, tokens: int) -> dict[str, Any]:
        cached = self.cached_tokens
        details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
            **details,
        }


@lru_cache(maxsize=64)
def _frames(api: str, model: str, step: int) -> list[bytes]:
    return []
