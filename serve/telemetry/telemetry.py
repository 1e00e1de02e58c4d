"""The parent's side of telemetry: starts the sampling child, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from foundation.cores import on_processors
from foundation.processes.python_child import run_module
from serve.telemetry.sampled import Report, SampledServer, SamplingPlan

_START_S = 60.0
_SAMPLE_S = 15.0
"""A sample waits for one that has begun, and then for the slowest server."""
_END_S = 60.0


class Telemetry:
    """`async with Telemetry(servers, folder)` samples the servers while it is open.

    On exit each variant has a file `folder/VARIANT.parquet`. `troubles`: what is missing or
    damaged, a sentence each. Telemetry never costs a run. `processors`: those of the servers; the
    child may use them too, so that it finds an idle one. None: the same as this process.
    """

    def __init__(
        self,
        servers: Sequence[SampledServer],
        folder: Path,
        processors: frozenset[int] | None = None,
    ) -> None:
        self._plan = SamplingPlan(tuple(servers), folder.absolute())
        self._processors = processors
        self._child: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Task[bytes] | None = None
        self._replies_due = 0
        self.troubles: list[str] = []

    async def __aenter__(self) -> Telemetry:
        if not self._plan.servers:
            return self
        pipe, processors = asyncio.subprocess.PIPE, self._processors
        if processors is not None:
            processors |= os.sched_getaffinity(0)
        try:
            # In a session of its own Ctrl-C does not reach it: it ends with its standard input.
            with on_processors(processors):
                self._child = await asyncio.create_subprocess_exec(
                    *run_module("serve.telemetry.sampler"),
                    stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            self.troubles.append(f"the sampling process can't start ({error.strerror or error})")
            return self
        assert self._child.stderr is not None
        # Read all along: a full pipe would stop the child.
        self._errors = asyncio.create_task(self._child.stderr.read())
        plan = pickle.dumps(self._plan)
        await self._order(len(plan).to_bytes(8, "big") + plan, _START_S)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        child = self._child
        if child is None:
            return
        assert child.stdin is not None and self._errors is not None
        try:
            child.stdin.close()
            async with asyncio.timeout(_END_S):
                while (report := await self._report()) is not None:
                    self.troubles += report.troubles
                errors = (await self._errors).decode(errors="replace").splitlines()
                await child.wait()
            self.troubles += [f"the sampling process failed: {errors[-1]}"] if errors else []
        except TimeoutError:
            self.troubles.append(f"the sampling process did not end in {_END_S:g} s")
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
            self._errors.cancel()

    async def sample(self) -> None:
        """Take a sample now; return when it is taken, or can't be."""
        if self._child is not None:
            await self._order(b"sample\n", _SAMPLE_S)

    async def _order(self, order: bytes, seconds: float) -> None:
        """Sends an order, and waits for its reply and those of earlier orders."""
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write(order)
        self._replies_due += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._replies_due and await self._report() is not None:
                    self._replies_due -= 1

    async def _report(self) -> Report | None:
        """The next report of the child; None when it has ended."""
        assert self._child is not None and self._child.stdout is not None
        while (line := await self._child.stdout.readline()).endswith(b"\n"):
            with contextlib.suppress(msgspec.DecodeError):  # a library in it may print, too
                return msgspec.json.decode(line, type=Report)
        return None
