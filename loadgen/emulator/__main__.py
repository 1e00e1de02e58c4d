"""`python -m loadgen.emulator`: serves until SIGTERM or SIGINT.

It prints one JSON line with the port when it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from loadgen.emulator.behaviour import FAULTS, NO_TIME, Behaviour, Distribution
from loadgen.emulator.engine_record import engine_record
from loadgen.emulator.plant import Plant
from loadgen.emulator.server import EmulatorServer, ServerLogs, listen
from loadgen.emulator.step_arguments import add_step_arguments, plant_of
from loadgen.emulator.truth import TruthLog

if TYPE_CHECKING:
    from loadgen.emulator.otlp import TraceExport

_DELAYS = {
    "--front": "time before a request reaches the engine's queue",
    "--queue": "time in the engine's queue before the request may have a slot",
    "--end": "time from the last text to the last token, which has no text",
}


def main() -> None:
    """Runs the emulator with the command line's arguments."""
    parser = _parser()
    args = parser.parse_args()
    plant = plant_of(args, parser)
    behaviour = Behaviour(
        ttft=args.ttft,
        itl=args.itl,
        tokens=args.tokens,
        front=args.front,
        queue=args.queue,
        end=args.end,
        metrics=args.metrics,
        slots=args.slots,
        lockstep=args.lockstep.first if args.lockstep else 0.0,
        tokens_per_chunk=args.tokens_per_chunk,
        usage=not args.no_usage,
        owned_by=args.owned_by,
        fault=args.fault,
        fault_every=args.fault_every,
        seed=args.seed,
    )
    uvloop.run(_serve(behaviour, plant, args))


async def _serve(behaviour: Behaviour, plant: Plant | None, args: argparse.Namespace) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    with (
        listen(args.host, args.port, args.unix) as listener,
        TruthLog(args.truth) as truth,
        TruthLog(args.step_truth) as steps,
        engine_record(args.engine_record) if args.engine_record else nullcontext() as record,
    ):
        if record:
            limits = plant.limits if plant else None
            record.start(limits, time.monotonic_ns(), time.time_ns())
        logs = ServerLogs(truth, steps, record, _spans(args.otlp))
        server = EmulatorServer(behaviour, plant, logs, listener)
        print(json.dumps({"port": None if args.unix else listener.getsockname()[1]}), flush=True)
        await ended.wait()
        server.close()


def _spans(address: str | None) -> TraceExport | None:
    if address is None:
        return None
    from loadgen.emulator.otlp import TraceExport

    return TraceExport(address)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadgen.emulator",
        description="An OpenAI-compatible server of known behaviour.",
        epilog="A prompt can name times of its own: front:20ms queue:200ms ttft:50ms itl:5ms "
        "end:20ms.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--unix", metavar="PATH", help="listen on a unix socket instead")
    parser.add_argument(
        "--ttft",
        type=Distribution.parse,
        default="20ms",
        help="20ms, exponential:20ms, lognormal:20ms:0.5, uniform:10ms:30ms",
    )
    parser.add_argument(
        "--itl",
        type=Distribution.parse,
        default="5ms",
        help="time between events, in the same forms",
    )
    parser.add_argument(
        "--tokens",
        type=lambda text: Distribution.parse(text, counts=True),
        default="16",
        help="output tokens",
    )
    for name, purpose in _DELAYS.items():
        parser.add_argument(name, type=Distribution.parse, default=NO_TIME, help=purpose)
    parser.add_argument(
        "--metrics",
        action="store_true",
        help="send a request's times in its last chunk, like vLLM's --enable-per-request-metrics",
    )
    parser.add_argument(
        "--slots",
        type=int,
        default=0,
        help="requests served at once, the others queue; 0: no limit",
    )
    parser.add_argument(
        "--lockstep",
        type=Distribution.parse,
        metavar="TIME",
        help="engine steps that send every stream its token at once",
    )
    parser.add_argument("--tokens-per-chunk", type=int, default=1)
    parser.add_argument("--no-usage", action="store_true", help="leave the usage out")
    parser.add_argument("--owned-by", default="emulator", help="what /v1/models says the server is")
    parser.add_argument(
        "--fault",
        choices=sorted(FAULTS),
        help="the fault of every request; a prompt with fault:NAME in it has its own",
    )
    parser.add_argument(
        "--fault-every",
        type=int,
        default=1,
        metavar="N",
        help="only every N-th request has the fault",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--truth", type=Path, metavar="FILE", help="log what the server did, as JSON lines"
    )
    parser.add_argument(
        "--engine-record",
        type=Path,
        metavar="FILE",
        help="append an engine record: requests, and the steps of --step and --lockstep",
    )
    parser.add_argument(
        "--otlp", metavar="URL", help="send a span of each request, to http://HOST:PORT/v1/traces"
    )
    add_step_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
