"""Accepts connections, reads requests, and gives them to the engine or to a fault."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.run.engine_record import EngineStep
from loadgen.emulator import wire
from loadgen.emulator.behaviour import Behaviour, course
from loadgen.emulator.connection import ClientConnection, Request
from loadgen.emulator.engine import Engine, Job
from loadgen.emulator.engine_record import EngineRecordFile
from loadgen.emulator.plant import Plant
from loadgen.emulator.prometheus import Totals, exposition
from loadgen.emulator.stepped_engine import SteppedEngine
from loadgen.emulator.truth import Truth, TruthLog

if TYPE_CHECKING:  # it imports protobuf
    from loadgen.emulator.otlp import TraceExport

_TRACE_PARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_HTML = b"<!doctype html>\n<html><body>\n\n<h1>Bad gateway</h1>\n\n</body></html>\n"


@dataclass(frozen=True)
class ServerLogs:
    """Where the server writes what it did; None for what it does not write."""

    truth: TruthLog
    steps: TruthLog
    record: EngineRecordFile | None
    spans: TraceExport | None


class EmulatorServer:
    """Serves `/v1/models`, `/v1/chat/completions`, `/v1/completions` and `/metrics` on a listening
    socket.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        plant: Plant | None,
        logs: ServerLogs,
        listener: socket.socket,
    ) -> None:
        self._behaviour, self._plant, self._listener = behaviour, plant, listener
        self._logs = logs
        self._engine: Engine | SteppedEngine = (
            SteppedEngine(plant, self._ended, self._step_ended, logs.steps)
            if plant
            else Engine(behaviour, self._ended, self._step_ended)
        )
        self._totals = Totals()
        self._jobs: dict[ClientConnection, Job] = {}
        self._connections: dict[ClientConnection, int] = {}
        self._accepted = 0
        self._requests = 0
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def close(self) -> None:
        """Ends every connection. Unfinished requests are logged as closed."""
        asyncio.get_running_loop().remove_reader(self._listener)
        for connection in list(self._connections):
            connection.close()
        self._engine.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            self._accepted += 1
            connection = ClientConnection(sock, self._take, self._closed)
            self._connections[connection] = self._accepted
            if self._behaviour.fault == "reset-connect":
                connection.reset()

    def _closed(self, connection: ClientConnection) -> None:
        del self._connections[connection]
        if job := self._jobs.pop(connection, None):
            self._engine.drop(job)

    def _take(self, connection: ClientConnection, request: Request) -> None:
        if request.path == "/v1/models":
            models = {
                "object": "list",
                "data": [
                    {"id": "emulated", "object": "model", "owned_by": self._behaviour.owned_by}
                ],
            }
            connection.send(wire.whole(200, json.dumps(models).encode()))
            return
        if request.path == "/metrics":
            connection.send(wire.whole(200, self._metrics(), "text/plain; version=0.0.4"))
            return
        api = {"/v1/chat/completions": "chat", "/v1/completions": "completions"}.get(request.path)
        if api is None:
            connection.send(wire.whole(404, b'{"error": {"message": "no such path"}}'))
            return
        body: dict[str, Any] = json.loads(request.body)
        prompt = body["messages"][-1]["content"] if api == "chat" else body["prompt"]
        self._requests += 1
        fault = self._behaviour.fault_for(prompt, self._requests)
        trace = _TRACE_PARENT.fullmatch(request.fields.get("traceparent", ""))
        truth = Truth(
            self._requests,
            self._connections[connection],
            prompt,
            request.arrived_ns,
            fault,
            request.fields.get("x-request-id", ""),
            trace[1] if trace else "",
        )
        if not self._act_out_fault(connection, truth):
            self._run(connection, api, body, truth)

    def _run(
        self, connection: ClientConnection, api: str, body: dict[str, Any], truth: Truth
    ) -> None:
        options = body.get("stream_options", {})
        continuous = bool(options.get("continuous_usage_stats"))
        max_tokens = body.get("max_tokens") or body.get("max_completion_tokens") or 16
        behaviour = self._behaviour.for_prompt(truth.prompt)
        course_ = course(behaviour, truth.request, max_tokens)
        stream = wire.Stream(
            api,
            body["model"],
            len(truth.prompt.split()),
            continuous,
            self._behaviour.tokens_per_chunk,
        )
        usage = self._behaviour.usage and bool(options.get("include_usage"))
        job = Job(connection, stream, course_, usage, self._behaviour.metrics, truth)
        job.salt = body.get("cache_salt")
        try:
            self._engine.submit(job)
        except ValueError as problem:
            error = {"error": {"message": str(problem), "code": 400}}
            truth.head_ns = connection.send(wire.whole(400, json.dumps(error).encode()))
            self._finish(truth, "refused")
        else:
            self._jobs[connection] = job

    def _act_out_fault(self, connection: ClientConnection, truth: Truth) -> bool:
        """Acts out a fault that needs no engine; returns whether there was one."""
        fault = truth.fault or ""
        if fault.startswith("http-"):
            status = int(fault.split("-")[1])
            body = (
                b""
                if fault.endswith("-empty")
                else json.dumps({"error": {"message": f"{status} on request"}}).encode()
            )
            truth.head_ns = connection.send(wire.whole(status, body))
        elif fault == "html":
            truth.head_ns = connection.send(wire.whole(200, _HTML, "text/html"))
        elif fault == "reset-headers":
            truth.head_ns = connection.send(wire.STREAM_HEAD[:40])
            asyncio.get_running_loop().call_later(0.02, connection.reset)
        elif fault in ("long-length", "short-length"):
            stream = wire.Stream("chat", "emulated", 1, continuous=False)
            body = stream.finish(0, "stop") + b"data: [DONE]\n\n"
            truth.head_ns = connection.send(
                wire.promised(len(body) // 2 if fault == "short-length" else len(body) + 100)
                + body[:-20]
            )
            asyncio.get_running_loop().call_later(0.02, connection.close)
        elif fault != "silent":
            return False
        self._finish(truth, fault)
        return True

    def _ended(self, job: Job, end: str) -> None:
        self._jobs.pop(job.connection, None)
        job.count_tokens()
        self._totals.add(job.truth, job.stream.prompt_tokens)
        self._totals.ends["abort" if end == "closed" else job.reason] += 1
        if record := self._logs.record:
            record.request(job.truth, job.stream.prompt_tokens)
        if spans := self._logs.spans:
            spans.request(job.truth, job.stream.prompt_tokens)
        self._finish(job.truth, end)

    def _step_ended(self, step: EngineStep) -> None:
        if record := self._logs.record:
            record.write([step])

    def _metrics(self) -> bytes:
        """Requests now, and tokens so far: of requests that are over and of those in a slot."""
        totals = replace(self._totals)
        for job in self._engine.jobs:
            job.count_tokens()
            totals.add(job.truth, job.stream.prompt_tokens)
        return exposition(self._engine.gauges, totals)

    def _finish(self, truth: Truth, end: str) -> None:
        truth.end, truth.ended_ns = end, time.monotonic_ns()
        self._logs.truth.write(truth)


def listen(host: str, port: int, unix: str | None) -> socket.socket:
    """A listening socket: IPv4, IPv6 or unix."""
    if unix is not None:
        Path(unix).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(unix)
        listener.listen(4096)
        return listener
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=4096)
