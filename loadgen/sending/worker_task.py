"""The task that a worker process gets on its standard input, and what it says on its output."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import msgspec

from foundation.errors import SystemFailed
from foundation.run.records import Count
from loadgen.sending.block import BlockPlan

PART = "part.jsonl"
"""The journal's name in the folder that a worker on a node works in."""


@dataclass(frozen=True)
class WorkerTask:
    """A share of a block, and the file for its journal.

    `by_fleet`: the process may start workers of its own, as the first one on a machine does.
    """

    plan: BlockPlan
    part: Path
    by_fleet: bool = False

    def pickled(self) -> bytes:
        """The task for a process of the same tunedyno."""
        return pickle.dumps(self)


class WorkerMessage(msgspec.Struct, omit_defaults=True):
    """A line from a worker.

    `ready`: it can start. `ended`: requests that ended since the last line, with a `note` on them.
    `error`: why it ends.
    """

    ready: bool = False
    ended: Count = 0
    note: str = ""
    error: str = ""


def decoded_message(line: bytes) -> WorkerMessage:
    """A worker's message. Raises SystemFailed where it reports an error, or can't be read."""
    try:
        message = msgspec.json.decode(line, type=WorkerMessage)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SystemFailed(f"a load generator worker said what can't be read: {error}") from None
    if message.error:
        raise SystemFailed(message.error)
    return message
