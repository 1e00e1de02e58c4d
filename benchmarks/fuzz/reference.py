"""A second reader of event streams and chunked bodies: simple, slow, without the product's code."""

from __future__ import annotations

import json
import re
from typing import Any

BARE = b"bare"
GOOD = ("stop", "length", "tool_calls", "function_call", "content_filter")


def events_of(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Type and data of each event, by the standard and the additions of `loadgen.protocol.sse`."""
    events: list[tuple[bytes, bytes]] = []
    block: list[bytes] = []
    runs_on = False
    *lines, last = re.split(
        rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf")
    )  # the last has no line end
    for line in lines:
        runs_on = runs_on or _closes(block, line, events)
        if line:
            block.append(line)
        if not line or (runs_on and _is_object(line)):
            events += _event_of(block)
            block = []
    if not runs_on:
        _closes(block, last, events)
    return events


def _closes(block: list[bytes], line: bytes, events: list[tuple[bytes, bytes]]) -> bool:
    """True if `line` begins a second object in a block: then each object is an event of its own."""
    if not (block and block[-1].endswith(b"}") and re.match(rb"data: ?(\{|\[DONE\])", line)):
        return False
    rest: list[bytes] = []
    for earlier in block:
        rest.append(earlier)
        if _is_object(earlier):
            events += _event_of(rest)
            rest = []
    block[:] = rest
    return True


def _is_object(line: bytes) -> bool:
    return re.fullmatch(rb"data: ?\{.*\}", line) is not None


def _event_of(block: list[bytes]) -> list[tuple[bytes, bytes]]:
    kind, data, bare = b"", [], []
    for line in block:
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field in (b"data", b"error"):
            data.append(value)
        if field in (b"event", b"error"):
            kind = b"error" if field == b"error" else value
        if line.startswith(b"{") and line.endswith(b"}"):
            bare.append(line)
    if data or kind == b"error":
        return [(kind, b"\n".join(data))]
    return [(BARE, line) for line in bare[-1:]]


def may_succeed(body: bytes) -> bool:
    """True if a body can be a whole answer: a choice ends well, none ends badly, no event fails."""
    events, body = events_of(body), body.removeprefix(b"\xef\xbb\xbf")
    lines = re.sub(rb"\r\n|\r", b"\n", body)
    runs_on = re.search(rb"\}\ndata: ?(\{|\[DONE\])", lines)
    rest = lines.split(b"\n" if runs_on else b"\n\n")[-1].strip()
    if rest.startswith(b"data:") and b"\n" not in rest:
        events.append((b"", rest[5:].strip()))  # the last event's end may be missing
    well = False
    for kind, data in events:
        if kind == b"error":
            return False
        value = _value(data)
        if not isinstance(value, dict) or kind == BARE:
            continue
        if value.get("error"):
            return False
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            reason = choice.get("finish_reason") if isinstance(choice, dict) else None
            if reason is not None and reason != "" and reason not in GOOD:
                return False
            well = well or (isinstance(reason, str) and reason in GOOD)
    return well


def _value(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8", "replace"), strict=False)
    except RecursionError:
        return {
            "choices": [{"finish_reason": "stop"}]
        }  # too deep for this judge, who then abstains
    except ValueError:
        return None


def unchunked(stream: bytes) -> tuple[bytes, bool] | None:
    """The content of a chunked body and whether it is complete; None if it is not chunked.

    Source: RFC 9112, section 7.1.
    """
    body, at = b"", 0
    while True:
        end = stream.find(b"\r\n", at)
        if end < 0:
            return body, False
        size = re.fullmatch(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(;.*)?", stream[at:end], re.DOTALL)
        if size is None:
            return None
        length, at = int(size[1], 16), end + 2
        if not length:
            break
        body += stream[at : at + length]
        if len(stream) < at + length:
            return body, False
        at += length
        if stream[at : at + 2] != b"\r\n"[: len(stream) - at]:
            return None
        at += 2
    while (end := stream.find(b"\r\n", at)) >= 0:
        if end == at:
            return body, True
        at = end + 2
    return body, False
