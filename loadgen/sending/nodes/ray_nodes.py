"""The nodes of a Ray cluster, through a driver in a process of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from foundation.errors import BadInput, SystemFailed
from foundation.files.scratch import outer_temporary_folder
from foundation.processes.python_child import run_module
from foundation.ray_token import token_mode
from foundation.run.records import Clock
from loadgen.sending.nodes.checks import check_versions
from loadgen.sending.nodes.clock import ClockOffset, clock_offset
from loadgen.sending.nodes.facts import facts_here
from loadgen.sending.nodes.node import SILENCE_S, START_S, NodeFacts, NodeLost, NodeMessages
from loadgen.sending.nodes.ray_frames import (
    NodeAnswer,
    NodeCall,
    OpenedCluster,
    framed,
    read_frame,
)

T = TypeVar("T")
# Ray looks for a cluster for a minute; then its actors start.
_OPEN_S = 180.0
_LEAVE_S = 10.0
# While a node can't be reached, a call is repeated. It may come twice, so `start` is not.
_REPEAT_S = 0.5
_LAST_WORDS = 300
_LAST_WORDS_S = 1.0


@asynccontextmanager
async def ray_nodes(address: str) -> AsyncIterator[Sequence[RayNode]]:
    """The nodes of the cluster at `address`, which may be "auto", each with tunedyno like here.

    Starts no cluster. Raises BadInput without Ray or a cluster, and for a node that differs. At the
    end nothing of ours is left on the nodes.
    """
    if importlib.util.find_spec("ray") is None:
        raise BadInput('workload.machines needs Ray: pip install "tunedyno[ray]"')
    with tempfile.TemporaryDirectory(prefix="tunedyno-") as empty:
        driver, opened = await _opened(address, empty)
        try:
            nodes = [RayNode(driver, id_, _facts(told)) for id_, told in opened.nodes.items()]
            check_versions([node.facts for node in nodes], facts_here())
            yield nodes
        finally:
            await driver.close()


def _facts(told: dict[str, object]) -> NodeFacts:
    """A node's facts. Raises BadInput for those that another tunedyno writes."""
    try:
        return msgspec.convert(told, NodeFacts)
    except msgspec.ValidationError as error:
        name = told.get("name", "?")
        raise BadInput(
            f"workload.machines: node {name} has another tunedyno ({error}); "
            "install the same one there"
        ) from None


class RayNode:
    """A node of a cluster; its methods are those of `Node`."""

    def __init__(self, driver: _Driver, id_: str, facts: NodeFacts) -> None:
        self._driver = driver
        self._gone: NodeLost | None = None
        self.id, self.facts = id_, facts

    async def clock(self) -> ClockOffset:
        """Its clock against ours, now."""
        pings = await self._call("pings", list[tuple[Clock, Clock, Clock, Clock]])
        try:
            return clock_offset(*np.array(pings, np.int64).reshape(-1, 4).T)
        except ValueError as error:
            raise self._lost(f"its clock can't be read: {error}") from None

    async def start(self, work: bytes) -> tuple[int, bytes]:
        """Starts a worker on a pickle; returns its job's number and its first line."""
        return await self._call("start", tuple[int, bytes], work=work, more_s=START_S)

    async def order(self, job: int, line: str) -> None:
        """Writes a line of orders to a job's worker."""
        await self._call("order", type(None), job, line)

    async def messages(self, job: int) -> NodeMessages:
        """What a job's worker says, after a short while or its end."""
        return await self._call("messages", NodeMessages, job)

    async def piece(self, job: int, offset: int) -> bytes:
        """A piece of a job's journal."""
        return await self._call("piece", bytes, job, offset)

    async def end(self, job: int) -> None:
        """Ends a job, whatever it does."""
        await self._call("end", type(None), job)

    async def _call(
        self,
        method: str,
        kind: type[T],
        *arguments: int | str,
        work: bytes = b"",
        more_s: float = 0.0,
    ) -> T:
        if self._gone is not None:
            raise self._gone
        patience_s = SILENCE_S + more_s
        try:
            async with asyncio.timeout(patience_s):
                answer = await self._driver.answer(self.id, method, arguments, work)
                while answer.unavailable and method != "start":
                    await asyncio.sleep(_REPEAT_S)
                    answer = await self._driver.answer(self.id, method, arguments, work)
        except TimeoutError:
            raise self._lost(f"no answer for {patience_s:g} s") from None
        if answer.error:
            raise self._lost(answer.error)
        try:
            return msgspec.msgpack.decode(answer.value, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._lost(f"its answer can't be read: {error}") from None

    def _lost(self, why: str) -> NodeLost:
        """The error of this call and of all after it."""
        self._gone = NodeLost(f"node {self.facts.name} was lost ({why})")
        return self._gone


async def _opened(address: str, folder: str) -> tuple[_Driver, OpenedCluster]:
    """A driver, and the nodes that it has.

    Where the user has a token, Ray shows it. Nodes that want none may refuse a driver that does, so
    without nodes another one tries it without.
    """
    modes = [token_mode(os.environ, Path.home())]
    if modes[0]:
        modes.append(dict.fromkeys(modes[0], "disabled"))
    while True:
        driver = await _started(address, folder, modes.pop(0))
        try:
            return driver, await driver.opened()
        except BadInput:
            await driver.close()
            if not modes:
                raise
        except BaseException:
            await driver.close()
            raise


async def _started(address: str, folder: str, mode: Mapping[str, str]) -> _Driver:
    """A driver that works in `folder`, and looks for clusters where other programs keep them."""
    process = await asyncio.create_subprocess_exec(
        *run_module("loadgen.sending.nodes.ray_driver", address),
        cwd=folder,
        env={**os.environ, **mode, "TMPDIR": str(outer_temporary_folder())},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours to pass on
    )
    return _Driver(process)


class _Driver:
    """A process that passes calls on to nodes, and what it answers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process, self._calls, self._answers = process, process.stdin, process.stdout
        self._complaints = b""
        self._complaining = asyncio.create_task(self._keep_complaints(process.stderr))
        self._listening: asyncio.Task[None] | None = None
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[NodeAnswer]] = {}

    async def opened(self) -> OpenedCluster:
        """The nodes. Raises BadInput where there are none."""
        try:
            async with asyncio.timeout(_OPEN_S):
                frame = await read_frame(self._answers)
        except TimeoutError:
            raise SystemFailed(f"Ray did not answer within {_OPEN_S:g} s") from None
        if not frame:
            raise SystemFailed("Ray's driver ended before it had a cluster", await self._words())
        cluster = msgspec.msgpack.decode(frame, type=OpenedCluster)
        if cluster.error:
            raise BadInput(f"workload.machines: {cluster.error}")
        self._listening = asyncio.create_task(self._listen())
        return cluster

    async def answer(
        self, node: str, method: str, arguments: Sequence[int | str], work: bytes
    ) -> NodeAnswer:
        """The answer to a call, or why the driver can give none."""
        assert self._listening is not None
        if self._listening.done():
            return NodeAnswer(-1, error=await self._ended())
        number = next(self._numbers)
        waiting: asyncio.Future[NodeAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self._calls.write(framed(NodeCall(number, node, method, list(arguments), work)))
        try:
            return await waiting
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        """Has it leave the cluster, or ends it after a while."""
        self._calls.close()
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        for task in (self._listening, self._complaining):
            if task is not None:
                task.cancel()

    async def _listen(self) -> None:
        while frame := await read_frame(self._answers):
            answer = msgspec.msgpack.decode(frame, type=NodeAnswer)
            self._settle(answer.number, answer)
        error = await self._ended()
        for number in list(self._waiting):
            self._settle(number, NodeAnswer(number, error=error))

    def _settle(self, number: int, answer: NodeAnswer) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _ended(self) -> str:
        return f"Ray's driver ended: {await self._words()}"

    async def _keep_complaints(self, stream: asyncio.StreamReader) -> None:
        while piece := await stream.read(_LAST_WORDS):
            self._complaints = (self._complaints + piece)[-_LAST_WORDS:]

    async def _words(self) -> str:
        """The end of what it complained about, once it has had time to."""
        await asyncio.wait([self._complaining], timeout=_LAST_WORDS_S)
        return " ".join(self._complaints.decode("utf-8", "replace").split())
