"""Reads chunks in the unusual forms of some servers, wherever the meaning is clear.

Such forms are content in parts, counts as floats or strings, NaN, half characters, deep nesting in
fields that are not used, and errors in every known form. This parser is slow. It gets only the
events that `decode_chunk` refuses.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from loadgen.protocol.chunk import (
    MOST_NUMBER,
    Choice,
    Chunk,
    Delta,
    Metrics,
    PromptTokensDetails,
    Usage,
)

_EXCERPT_LENGTH = 300
_MAX_DEPTH = 100
_MAX_DIGITS = 18
_COMPLAINTS = ("message", "detail", "errors", "msg", "error_msg", "error_message")
_THOUGHTS = ("thinking", "reasoning")
# A string without an end is one token too, which keeps the search linear.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_HALVES = re.compile("[\ud800-\udfff]+")
_ESCAPED = range(0xDC80, 0xDD00)


class MalformedEvent(ValueError):
    """The event's data holds nothing that a measurement could use."""


def read_chunk(payload: bytes) -> tuple[Chunk, bool]:
    """The chunk, and whether its usage has a count that is no whole number.

    Raises MalformedEvent.
    """
    data = _json(payload)
    if not isinstance(data, dict):
        raise MalformedEvent("not a JSON object")
    error, choices, numbers = error_in(data), data.get("choices"), _Counts()
    if not isinstance(choices, list | None):
        raise MalformedEvent("choices is not a list")
    usage = numbers.usage(data.get("usage"))
    chunk = Chunk(
        [_choice(choice) for choice in choices or ()], usage, _metrics(data.get("metrics")), error
    )
    return chunk, numbers.odd


def error_in(data: Any) -> str | None:
    """The text of an error that a server sent instead of a chunk or an answer; None without one."""
    if not isinstance(data, dict):
        return None
    if error := data.get("error"):
        return excerpt(error if isinstance(error, str) else json.dumps(error))
    named = "error" in (data.get("object"), data.get("type"))
    complains = "choices" not in data and any(
        isinstance(data.get(key), str | list) and data[key] for key in _COMPLAINTS
    )
    return excerpt(json.dumps(data)) if named or complains else None


def whole_json(body: bytes) -> Any:
    """The value of a body that is one JSON document, else None."""
    try:
        return _json(body)
    except MalformedEvent:
        return None


def excerpt(words: bytes | str) -> str:
    """The beginning of a server's text, on one line, in characters that every journal can hold."""
    text = (
        words[:_EXCERPT_LENGTH].decode("utf-8", "replace")
        if isinstance(words, bytes)
        else repaired(words[:_EXCERPT_LENGTH])
    )
    return " ".join(text.split())


def repaired(text: str) -> str:
    """The text with half characters joined, or replaced by U+FFFD where the other half is missing.

    Half characters are UTF-16 surrogates that were escaped one by one, and bytes of UTF-8 that
    `surrogateescape` kept.
    """
    if text.isascii() or not _HALVES.search(text):
        return text
    paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _HALVES.sub(_whole_or_replaced, paired)


def _whole_or_replaced(halves: re.Match[str]) -> str:
    joined_bytes = bytearray()
    for half in map(ord, halves[0]):
        joined_bytes += bytes([half - 0xDC00]) if half in _ESCAPED else b"\xff"
    return joined_bytes.decode("utf-8", "replace")


def _json(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    text = payload.decode("utf-8", "surrogateescape")
    if text.count("[") + text.count("{") > _MAX_DEPTH:
        text = _without_deep_nesting(text)
    try:
        return _decoder.decode(text)
    except ValueError as problem:
        raise MalformedEvent(f"not JSON ({problem})") from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


_decoder = json.JSONDecoder(strict=False, parse_int=_integer)


def _without_deep_nesting(text: str) -> str:
    """JSON with null in place of values nested more than `_MAX_DEPTH` deep.

    No field that is used lies so deep.
    """
    kept: list[str] = []
    depth, at = 0, 0
    for token in _BRACKETS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == _MAX_DEPTH:
                kept.append(text[at : token.start()])
                kept.append("null")
        elif token[0] in "]}":
            if depth == _MAX_DEPTH:
                at = token.end()
            depth -= 1
    return "".join(kept) + (text[at:] if depth < _MAX_DEPTH else "")


def _choice(choice: Any) -> Choice:
    if not isinstance(choice, dict):
        raise MalformedEvent("a choice is not an object")
    delta, reason = choice.get("delta") or choice.get("message"), choice.get("finish_reason")
    text, index = choice.get("text"), choice.get("index")
    if not isinstance(delta, dict | None):
        raise MalformedEvent("delta is not an object")
    return Choice(
        delta=None if delta is None else _delta(delta),
        text=None if text is None else _answer_text(text),
        finish_reason=None
        if reason is None
        else repaired(reason if isinstance(reason, str) else json.dumps(reason)),
        index=index if isinstance(index, int) else 0,
    )


def _delta(delta: dict[str, Any]) -> Delta:
    content = delta.get("content")
    thoughts = [
        delta.get("reasoning"),
        delta.get("reasoning_content"),
        content if isinstance(content, list | dict) else None,
    ]
    calls = [delta.get("tool_calls"), {"function": delta.get("function_call")}]
    return Delta(
        content=("" if content is None else _answer_text(content))
        + "".join(_texts(delta.get("refusal"), "refusal", "text")),
        reasoning="".join(
            (
                *_texts(thoughts, "thinking", "reasoning", "text"),
                *_texts(calls, "function", "custom", "name", "arguments", "input"),
            )
        ),
    )


def _answer_text(content: Any) -> str:
    """The answer's own text, without thoughts."""
    if not isinstance(content, str | list | dict):
        raise MalformedEvent("content is neither text nor parts of text")
    return "".join(_texts(content, "text", "refusal"))


def _texts(content: Any, *keys: str) -> Iterator[str]:
    """The text of content: a string, a part with text under one of `keys`, or a list of these."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            yield from _texts(part, *keys)
    elif isinstance(content, dict) and ("thinking" in keys or content.get("type") not in _THOUGHTS):
        for key in keys:
            yield from _texts(content.get(key), *keys)


class _Counts:
    """Reads token counts. `odd`: one of them was no whole number."""

    def __init__(self) -> None:
        self.odd = False

    def usage(self, usage: Any) -> Usage | None:
        if usage is None:
            return None
        if not isinstance(usage, dict):
            self.odd = True
            return None
        details = usage.get("prompt_tokens_details")
        cached = self.count(details.get("cached_tokens")) if isinstance(details, dict) else None
        counts = self.count(usage.get("prompt_tokens")), self.count(usage.get("completion_tokens"))
        return Usage(*counts, None if cached is None else PromptTokensDetails(cached))

    def count(self, value: Any) -> int | None:
        if value is None:
            return None
        if (
            isinstance(value, str)
            and value.isascii()
            and value.isdigit()
            and len(value) <= _MAX_DIGITS
        ):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self.odd = True
        return None


def _metrics(metrics: Any) -> Metrics | None:
    """A server's own numbers and texts, without the values that no journal could hold or no reader
    use.
    """
    if not isinstance(metrics, dict):
        return None
    return {
        repaired(key): repaired(value) if isinstance(value, str) else value
        for key, value in metrics.items()
        if _is_storable(value)
    }


def _is_storable(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) <= MOST_NUMBER
    return isinstance(value, str | None) or (isinstance(value, float) and math.isfinite(value))
