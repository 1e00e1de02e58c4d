"""`python -m loadgen.sending.worker`: one process of a fleet, or all that a node sends of a block.

It reads a pickled `WorkerTask` from standard input, then lines of orders: `origin NS KEY` starts,
`stop` drains, `cancel` ends at once. The end of input means that the parent is gone, and
ends it too.
"""

from __future__ import annotations

import asyncio
import pickle
import sys

import msgspec

from foundation.errors import DynoError
from loadgen.event_loop import run
from loadgen.sending.block import send_block
from loadgen.sending.fleet import run_block
from loadgen.sending.origin import Origin
from loadgen.sending.worker_task import WorkerMessage, WorkerTask

_REPORT_EVERY_S = 0.1


class _Reporter:
    """Sends the progress as lines on standard output, a few a second."""

    def __init__(self) -> None:
        self._ended = 0
        self._note = ""

    def stage(self, name: str, total: float | None, unit: str) -> None: ...

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._ended += int(amount)
        self._note = note

    def log(self, line: str) -> None: ...

    def report(self) -> None:
        if self._ended:
            _send(WorkerMessage(ended=self._ended, note=self._note))
            self._ended = 0


def _send(message: WorkerMessage) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


async def _main() -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    task: WorkerTask = pickle.loads(
        await orders.readexactly(int.from_bytes(await orders.readexactly(8), "big"))
    )
    stop, origin = asyncio.Event(), asyncio.get_running_loop().create_future()
    reporter = _Reporter()

    async def start() -> Origin:
        _send(WorkerMessage(ready=True))
        return Origin(*await origin)

    async def obey(sending: asyncio.Task[object]) -> None:
        while order := (await orders.readline()).split():
            if order[0] == b"origin":
                if not origin.done():  # an order may come twice where nobody knew that it came
                    origin.set_result(map(int, order[1:]))
            elif order[0] == b"stop":
                stop.set()
            else:
                break
        sending.cancel()

    async def report() -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            reporter.report()

    send = run_block if task.by_fleet else send_block
    sending = asyncio.create_task(send(task.plan, task.part, reporter, stop, start))
    others = [asyncio.create_task(obey(sending)), asyncio.create_task(report())]
    try:
        await sending
    except asyncio.CancelledError:
        pass
    except DynoError as error:
        _send(WorkerMessage(error=str(error)))
    finally:
        for each in others:
            each.cancel()
        reporter.report()


if __name__ == "__main__":
    run(_main())
