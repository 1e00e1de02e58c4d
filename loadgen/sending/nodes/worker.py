"""A worker of a fleet as a process on another machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from foundation.errors import SystemFailed
from foundation.files.atomic_write import whole_file
from foundation.progress import Progress
from loadgen.sending.block import BlockPlan
from loadgen.sending.nodes.clock import ClockDrift, ClockOffset
from loadgen.sending.nodes.node import Node, NodeLost
from loadgen.sending.origin import Origin
from loadgen.sending.worker_task import PART, WorkerMessage, WorkerTask, decoded_message


class NodeWorker:
    """A job on `node` that sends its share of a block; its journal comes home at its end.

    The node's clock is measured before the block and after it: `drift`, None until both offsets
    are known. `origin`: the block's, on our clock, once it has begun.
    """

    drift: ClockDrift | None = None
    origin: Origin | None = None

    def __init__(self, plan: BlockPlan, part: Path, node: Node) -> None:
        self.part = part
        self._plan, self._node = plan, node
        self._name = f"node {node.facts.name}"
        self._job: int | None = None
        self._clock: ClockOffset | None = None

    async def start(self, folder: str) -> None:
        """Starts the worker, waits until it has a connection, and measures the node's clock."""
        work = WorkerTask(self._plan, Path(PART), by_fleet=True).pickled()
        self._job, line = await self._node.start(work)
        if not line or not self._message(line).ready:
            said = await self._node.messages(self._job)
            complaint = self._redacted(said.complaints)
            raise SystemFailed(f"{self._name}: its load generator did not start", complaint)
        self._clock = await self._node.clock()

    async def begin(self, origin: Origin) -> None:
        """Has it send its share from this origin on, which it gets on its own clock."""
        assert self._clock is not None
        self.origin = origin
        moment = origin.on_node(self._clock.offset_ns)
        await self.order(f"origin {moment.monotonic_ns} {moment.key_ns}")

    async def order(self, line: str) -> None:
        """Passes a line of orders to it; nothing where it has ended."""
        if self._job is not None:
            await self._node.order(self._job, line)

    async def follow(self, progress: Progress) -> None:
        """Passes on the worker's progress until it has ended, then brings its journal home.

        Raises NodeLost with the number of planned requests that have no record.
        """
        try:
            code, complaints = await self._end_of_job(progress)
            assert self._clock is not None
            self.drift = ClockDrift(self._clock, await self._node.clock())
            await self._bring_part()
        except NodeLost as problem:
            raise NodeLost(f"{problem}; {self._loss()}", problem.detail) from None
        if code:
            words = f"{self._name}: its load generator ended with {code}"
            raise SystemFailed(words, self._redacted(complaints))

    async def close(self) -> None:
        """Ends the job where the node is still there."""
        if self._job is not None:
            with suppress(NodeLost):  # it ends the job itself once nobody asks for it
                await self._node.end(self._job)

    async def _end_of_job(self, progress: Progress) -> tuple[int, str]:
        """Passes all messages on; returns exit code and complaints."""
        assert self._job is not None
        while True:
            messages = await self._node.messages(self._job)
            for message in map(self._message, messages.lines):
                for _ in range(message.ended):
                    progress.advance(1, f"{self._name}: {message.note}")
            if messages.code is not None:
                return messages.code, messages.complaints

    async def _bring_part(self) -> None:
        """Copies the worker's journal to its place here, if it began one."""
        assert self._job is not None
        if not (piece := await self._node.piece(self._job, 0)):
            return
        with whole_file(self.part) as place, place.open("wb") as file:
            while piece:
                file.write(piece)
                piece = await self._node.piece(self._job, file.tell())

    def _message(self, line: bytes) -> WorkerMessage:
        try:
            return decoded_message(line)
        except SystemFailed as problem:
            raise SystemFailed(f"{self._name}: {problem}") from None

    def _redacted(self, complaints: str) -> str:
        return self._plan.endpoint.redacted(complaints)[-2000:]

    def _loss(self) -> str:
        """What is lost with the node, in words."""
        plan = self._plan
        total = plan.stage.requests if (due := plan.timetable) is None else len(due.times_ns)
        block = f"block {plan.block} of {plan.stage.label}"
        if total is None:
            return f"its requests in {block} have no record"
        return f"{len(plan.share.of(total)):,} planned requests of {block} have no record"
