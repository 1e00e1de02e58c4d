"""vLLM's torch profiler: the options of a server that has it, and its routes to start and stop.

The routes exist only if a profiler was configured at the start (vLLM 0.32,
entrypoints/serve/profile). The worker writes its trace when the steps are over, or at
`/stop_profile`, which must follow in any case: until then no other profile can start.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp

from foundation.errors import SystemFailed
from foundation.http.aiohttp_session import address, open_session
from foundation.http.endpoint import Endpoint
from serve.plan import ServePlan

STOP_S = 900.0
"""How long a worker may take to write its trace."""
# While a worker writes, the engine waits for its next step: 300 s by default, then it ends.
_PATIENCE = {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": f"{STOP_S:.0f}"}
_TRACES = "*rank0*.pt.trace.json.gz"
_CORES = re.compile(r"local_rank=0, core ids=\[([\d, ]+)\]")
_NO_ROUTES = frozenset({404, 405, 501})


def profiled(plan: ServePlan, variant: str, traces: Path, delay: int, iterations: int) -> ServePlan:
    """A plan of the variant's server alone, with a profiler as in `options`.

    All its other options stay. Of replicas, the first alone, without a router. There is no server
    if the variant runs elsewhere.
    """
    servers = tuple(
        replace(
            server,
            arguments=(*server.arguments, *options(traces, delay, iterations)),
            variables={**server.variables, **_PATIENCE},
            replica=0,
            replicas=1,
            is_routed=False,
        )
        for server in plan.servers
        if variant in (each.name for each in server.variants) and server.replica <= 1
    )
    return replace(plan, servers=servers, elsewhere=(), rounds=((variant,),))


def options(traces: Path, delay: int, iterations: int) -> tuple[str, ...]:
    """vLLM's options to profile `iterations` engine steps after the first `delay` ones.

    The trace goes into `traces`. The route `/start_profile` takes no steps in vLLM 0.26.
    Without the API server's own trace and without Python's stacks, which would slow every step.
    The detailed annotation adds the sequences' lengths to each step's name.
    """
    return (
        "--profiler-config.profiler=torch",
        f"--profiler-config.torch_profiler_dir={traces.absolute()}",
        f"--profiler-config.delay_iterations={delay}",
        f"--profiler-config.max_iterations={iterations}",
        "--profiler-config.ignore_frontend=true",
        "--profiler-config.torch_profiler_with_stack=false",
        "--profiler-config.detailed_trace_annotation=true",
    )


async def start_profile(endpoint: Endpoint) -> None:
    """Profile the steps that the server's options say. Raises SystemFailed."""
    await _post(endpoint, "/start_profile")


async def stop_profile(endpoint: Endpoint) -> None:
    """End the profile, and wait until its trace is written. Raises SystemFailed."""
    await _post(endpoint, "/stop_profile")


def written_traces(traces: Path) -> Sequence[Path]:
    """The traces of the first worker that lie in a folder, the oldest first."""
    return sorted(traces.glob(_TRACES), key=lambda file: file.stat().st_mtime_ns)


def worker_cores(log: Path) -> frozenset[int]:
    """The cores that vLLM's CPU worker bound itself to, by its log; empty if it names none."""
    bindings = _CORES.findall(log.read_text(encoding="utf-8", errors="replace"))
    return frozenset(int(core) for core in bindings[-1].split(",")) if bindings else frozenset()


async def _post(endpoint: Endpoint, route: str) -> None:
    timeout = aiohttp.ClientTimeout(total=STOP_S)
    try:
        async with (
            open_session(endpoint, timeout) as web,
            web.post(address(endpoint, endpoint.beside(route)), allow_redirects=False) as answer,
        ):
            if answer.status == 200:
                return
            if answer.status in _NO_ROUTES:
                raise SystemFailed(
                    f"the server of {endpoint.variant} has no {route}: it was started without "
                    "vLLM's torch profiler"
                )
            text = (await answer.text(errors="replace"))[:300]
    except TimeoutError:
        raise SystemFailed(
            f"the server of {endpoint.variant} took more than {STOP_S:g} s for {route}; "
            "profile fewer steps with --iterations"
        ) from None
    except aiohttp.ClientError as error:
        raise SystemFailed(
            f"the server of {endpoint.variant} did not answer {route}",
            endpoint.redacted(str(error) or type(error).__name__),
        ) from None
    raise SystemFailed(
        f"the server of {endpoint.variant} refused {route}: HTTP {answer.status}",
        endpoint.redacted(text),
    )
