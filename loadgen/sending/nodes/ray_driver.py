"""`python -m loadgen.sending.nodes.ray_driver ADDRESS`: the one process of a run that speaks Ray.

It puts a `NodeProcess` on each node, as an actor, and passes the run's calls on. When its input
ends it takes the actors away and leaves the cluster. It is a process of its own so that Ray's
threads and signal handlers, and its exit when a cluster is gone, stay out of the run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from loadgen.sending.nodes.clock import PINGS
from loadgen.sending.nodes.node import SILENCE_S, START_S
from loadgen.sending.nodes.process import NodeProcess
from loadgen.sending.nodes.ray_frames import (
    NodeAnswer,
    NodeCall,
    OpenedCluster,
    framed,
    read_frame,
)

RESOURCE = "tunedyno"
"""Where some nodes have this resource of Ray, only they send."""
# Calls of one node at a time: each of its jobs has one that waits for messages.
_THREADS = 32
_LONGEST_REASON = 300


class _NoNodes(Exception):
    """There is no cluster, or one of its nodes can't send."""


def main(address: str) -> None:
    """Serves the calls of one run with the Ray cluster at `address`."""
    import ray

    answers = _own_output()
    # Ray's workers import from the folders of the driver's script and of its start.
    sys.argv = [str(Path.cwd() / "dyno")]
    try:
        _join_cluster(address)
        actors = _actors()
        facts = {node: _facts(actor, name) for node, (name, actor) in actors.items()}
    except _NoNodes as problem:
        _write(answers, OpenedCluster(error=str(problem)))
    else:
        _write(answers, OpenedCluster(facts))
        asyncio.run(_serve({node: actor for node, (_, actor) in actors.items()}, answers))
        for _, actor in actors.values():
            ray.kill(actor)
    ray.shutdown()


def _join_cluster(address: str) -> None:
    """Connects to a cluster that runs. Raises _NoNodes where there is none."""
    import ray

    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError, AssertionError, ImportError) as error:
        raise _NoNodes(
            f"no Ray cluster answers at {address} ({_reason(error, 6)}); "
            "`ray start --head` starts one, and one that wants a token gets that of "
            "~/.ray/auth_token or RAY_AUTH_TOKEN"
        ) from None


def _actors() -> dict[str, tuple[str, Any]]:
    """A `NodeProcess` on each node that sends, with the node's name, by its id."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = sorted(
        (node for node in ray.nodes() if node["Alive"]), key=lambda node: str(node["NodeID"])
    )
    senders = [node for node in alive if RESOURCE in node["Resources"]] or alive
    actor = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=_THREADS)(NodeProcess)
    return {
        node["NodeID"]: (
            node["NodeManagerHostname"],
            actor.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(),
        )
        for node in senders
    }


def _facts(actor: Any, name: str) -> dict[str, Any]:
    """What a node says of itself. Raises _NoNodes where it can't run a `NodeProcess`."""
    import ray

    try:
        facts: dict[str, Any] = ray.get(actor.facts.remote(), timeout=START_S)
    except ray.exceptions.RayError as error:
        raise _NoNodes(
            f"node {name} can't run tunedyno ({_reason(error)}); install the same one there"
        ) from None
    return facts


async def _serve(actors: Mapping[str, Any], answers: IO[bytes]) -> None:
    """Answers calls until there are no more."""
    calls, answering = asyncio.StreamReader(), set[asyncio.Task[None]]()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(calls), sys.stdin
    )
    while frame := await read_frame(calls):
        call = msgspec.msgpack.decode(frame, type=NodeCall)
        task = asyncio.create_task(_answer(call, actors[call.node], answers))
        answering.add(task)
        task.add_done_callback(answering.discard)
    for task in answering:
        task.cancel()


async def _answer(call: NodeCall, actor: Any, answers: IO[bytes]) -> None:
    import ray

    try:
        if call.method == "pings":
            value: object = await asyncio.to_thread(_pings, actor)
        else:
            arguments = [call.work] if call.method == "start" else call.arguments
            value = await getattr(actor, call.method).remote(*arguments)
    except (ray.exceptions.RayError, OSError) as error:
        unavailable = isinstance(error, ray.exceptions.ActorUnavailableError)
        answer = NodeAnswer(call.number, error=_reason(error), unavailable=unavailable)
        _write(answers, answer)
    else:
        _write(answers, NodeAnswer(call.number, msgspec.Raw(msgspec.msgpack.encode(value))))


def _pings(actor: Any) -> list[tuple[int, int, int, int]]:
    """The stamps of ping-pongs: sent, received, answered, back."""
    import ray

    pings = []
    for _ in range(PINGS):
        sent = time.monotonic_ns()
        received, answered = ray.get(actor.stamps.remote(), timeout=SILENCE_S)
        pings.append((sent, received, answered, time.monotonic_ns()))
    return pings


def _own_output() -> IO[bytes]:
    """Standard output for answers alone; what else is printed goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _write(answers: IO[bytes], message: msgspec.Struct) -> None:
    answers.write(framed(message))
    answers.flush()


def _reason(error: Exception, most: int = 1) -> str:
    """The first lines of an error, at most so many, as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:most])[:_LONGEST_REASON] or type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1])
