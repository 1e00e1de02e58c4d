"""The run's side of traces: starts the listening process, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from foundation.errors import BadInput
from foundation.processes.python_child import run_module
from serve.otlp.received import PATH, Received

LAST_SPANS_S = 6.0
"""Exporters send what they gathered every 5 s (OTEL_BSP_SCHEDULE_DELAY)."""
_END_S = 10.0


@asynccontextmanager
async def traces(port: int, file: Path, log: Callable[[str], None]) -> AsyncIterator[str]:
    """Takes traces on a port of 127.0.0.1, 0 for a free one, and appends their times to `file`.

    Gives the address that a server sends them to. At the end it waits for the last spans, and logs
    what came. Raises BadInput where the port is taken.
    """
    file = _ready(file)
    with _listening(port) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}{PATH}"
        fd, begun_ns = listening.fileno(), time.monotonic_ns()
        child = await asyncio.create_subprocess_exec(
            *run_module("serve.otlp.listener", f"{fd}", f"{file}", f"{begun_ns}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(fd,),
            start_new_session=True,  # Ctrl-C does not reach it: it ends with its standard input
        )
    server = (
        f"--otlp-traces-endpoint {address}, and "
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf in its environment"
    )
    log(f"traces: the server needs {server}")
    try:
        yield address
        log(f"traces: waits {LAST_SPANS_S:g} s for the server's last ones")
        await asyncio.sleep(LAST_SPANS_S)
        log(f"traces: {await _result(child)}")
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


def _ready(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.absolute()


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise BadInput(
            f"--traces: port {port} of 127.0.0.1 can't be had ({error.strerror}); write another"
        ) from None


async def _result(child: asyncio.subprocess.Process) -> str:
    """Ends the listening process. Returns what it received, in words."""
    try:
        async with asyncio.timeout(_END_S):
            line, errors = await child.communicate(b"")
    except TimeoutError:
        return f"the listening process did not end in {_END_S:g} s"
    if not line.endswith(b"\n"):
        words = errors.decode(errors="replace").splitlines()
        return f"the listening process failed: {words[-1] if words else child.returncode}"
    return msgspec.json.decode(line, type=Received).sentence()
