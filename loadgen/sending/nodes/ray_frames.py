"""What a run and its Ray driver write to each other: frames of msgpack after 8 bytes of length."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec


class NodeCall(msgspec.Struct, frozen=True):
    """A method of the `NodeProcess` on a node, with its arguments; `work` is that of `start`.

    `pings` is the driver's own.
    """

    number: int
    node: str
    method: str
    arguments: list[int | str] = []
    work: bytes = b""


_NOTHING = msgspec.Raw(msgspec.msgpack.encode(None))


class NodeAnswer(msgspec.Struct, frozen=True):
    """The value of a call, or why there is none.

    `unavailable`: nobody reached the node, which may be there again soon.
    """

    number: int
    value: msgspec.Raw = _NOTHING
    error: str = ""
    unavailable: bool = False


class OpenedCluster(msgspec.Struct, frozen=True):
    """The first frame of a driver: the facts of the nodes by id, or why there are none."""

    nodes: dict[str, dict[str, Any]] = {}
    error: str = ""


def framed(message: msgspec.Struct) -> bytes:
    """A message as it is written."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(8, "big") + body


async def read_frame(stream: asyncio.StreamReader) -> bytes:
    """The next frame; empty at the end of the stream."""
    try:
        return await stream.readexactly(int.from_bytes(await stream.readexactly(8), "big"))
    except asyncio.IncompleteReadError:
        return b""
