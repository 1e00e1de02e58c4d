"""Servers that are really started: vLLM with a random-weight model."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import pytest

from foundation.cores import on_processors
from foundation.errors import SystemFailed
from foundation.http.endpoint import Endpoint
from foundation.models.model import ModelRef
from foundation.progress import Silent
from foundation.run.engine_record import (
    EngineLine,
    EngineRequest,
    EngineStart,
    EngineStep,
    request_key,
)
from serve import Hosting, ServedVariant, ServerFolders, check, curl_line
from serve.config import ServeConfig
from tests.tiny_model import build_tiny_model

CONFIG = ServeConfig.model_validate({"device": "cpu", "enforce_eager": True, "kv_cache": "64MiB"})


_others: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def _remember_what_ran_before() -> None:
    """Other tests' helpers, such as multiprocessing's resource tracker, live on in this process."""
    _others.clear()
    _others.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    """What this test has started."""
    return [
        process for process in psutil.Process().children(recursive=True) if process not in _others
    ]


KEY = request_key(1, 7)


def left(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=30)[1]


async def unreached(endpoint: Endpoint) -> Endpoint:
    """All servers here are started by us."""
    raise AssertionError(endpoint)


async def ask(endpoint: Endpoint, **headers: str) -> tuple[int, Any]:
    """Status, and the answer to one greedy question."""
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 16,
        "temperature": 0,
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{endpoint.base_url}/chat/completions",
            json=body,
            headers={**endpoint.headers, **headers},
        ) as answer,
    ):
        parsed = await answer.json()
        return answer.status, parsed["choices"][0]["message"][
            "content"
        ] if answer.status == 200 else parsed


async def test_a_round_of_servers_from_start_to_a_death_in_the_run(
    tiny: ModelRef, adapter: Path, tmp_path: Path
):
    variants = [
        ServedVariant("base", tiny),
        ServedVariant("base-short", tiny),
        ServedVariant("tuned", tiny, adapter=adapter),
    ]
    plan = check(variants, CONFIG)
    hosting = Hosting(
        plan,
        ServerFolders(tmp_path / "logs", tmp_path / "telemetry", tmp_path / "engine"),
        Silent(),
        unreached,
    )
    with pytest.raises(SystemFailed) as failure:
        async with hosting.round(plan.rounds[0]) as endpoints:
            assert list(endpoints) == ["base", "base-short", "tuned"]
            assert len({endpoint.base_url for endpoint in endpoints.values()}) == 2

            answers = {name: await ask(endpoint) for name, endpoint in endpoints.items()}
            assert all(status == 200 for status, _ in answers.values())
            assert answers["base"] == answers["base-short"] != answers["tuned"]
            pasted = await asyncio.create_subprocess_shell(
                curl_line(endpoints["tuned"]), stdout=subprocess.PIPE
            )
            assert b'"model":"tuned"' in (await pasted.communicate())[0]

            # The other is somebody's own.
            for key in (KEY, "0f8fad5bd9cb469fa16570867728950e"):
                assert (await ask(endpoints["base"], **{"X-Request-Id": key}))[0] == 200

            status, _ = await ask(endpoints["base"], Authorization="Bearer guessed")
            assert status == 401
            listening = [
                c
                for p in children()
                for c in p.net_connections("tcp")
                if c.status == psutil.CONN_LISTEN
            ]
            serving = {endpoint.base_url for endpoint in endpoints.values()}
            assert {f"http://{c.laddr.ip}:{c.laddr.port}/v1" for c in listening} >= serving
            assert not any(endpoints["base"].api_key in " ".join(p.cmdline()) for p in children())
            assert not any(
                endpoints["base"].api_key in log.read_text()
                for log in (tmp_path / "logs").iterdir()
            )

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hosting.watch(), 2)
            family = children()
            next(p for p in family if "Worker" in p.name()).kill()
            await asyncio.wait_for(hosting.watch(), 60)
    assert re.match(
        r"the server of (base, base-short|tuned) died while it was under load: .*killed",
        str(failure.value),
    )
    assert "died unexpectedly" in failure.value.detail
    assert left(family) == []
    _check_telemetry(tmp_path / "telemetry", {"base", "base-short", "tuned"})
    _check_engine_records(tmp_path)


def _check_engine_records(folder: Path) -> None:
    assert {file.name for file in (folder / "engine").iterdir()} == {"base.jsonl", "tuned.jsonl"}
    decoder = msgspec.json.Decoder(EngineLine)
    start, *lines = decoder.decode_lines((folder / "engine" / "base.jsonl").read_bytes())
    assert isinstance(start, EngineStart) and re.fullmatch(r"vLLM \d+\.\d+\.\d+", start.source)
    requests = [line for line in lines if isinstance(line, EngineRequest)]
    steps = [line for line in lines if isinstance(line, EngineStep)]
    assert [(request.key, request.output_tokens) for request in requests] == [(KEY, 16)]
    assert len(steps) >= 4 * 16
    assert max(step.ended_ns for step in steps) < time.monotonic_ns()
    assert all(step.elapsed_ns for step in steps)
    request = requests[0]
    assert request.finished_ns is not None and request.in_server_ns is not None
    assert request.queued_ns + request.prefill_ns + request.decode_ns < request.in_server_ns
    within = [
        step.elapsed_ns or 0
        for step in steps
        if request.finished_ns - request.in_server_ns < step.ended_ns <= request.finished_ns
    ]
    assert len(within) == 16 and sum(within) < request.in_server_ns
    assert "Iteration(" not in (folder / "logs" / "base.log").read_text()


def _check_telemetry(folder: Path, variants: set[str]) -> None:
    import pyarrow.parquet as pq

    assert {file.stem for file in folder.iterdir()} == variants
    samples = pq.read_table(folder / "base.parquet").to_pylist()
    assert len(samples) >= 2
    assert all(a["monotonic_ns"] < b["monotonic_ns"] for a, b in pairwise(samples))
    assert abs(samples[-1]["unix_ns"] - time.time_ns()) < 600e9
    assert samples[0]["rss_bytes"] > 500 * 2**20 and samples[0]["cpu_s"] > 1
    answered = [s for s in samples if s["generation_tokens"] is not None]
    assert (
        answered[-1]["generation_tokens"] >= 1
        and answered[-1]["prompt_tokens"] > answered[-1]["generation_tokens"] - 40
    )
    assert {s["running"] for s in answered} <= {0, 1}, "one request at a time was asked"
    assert answered[0]["preemptions"] == 0
    last = answered[-1]
    assert last["iterations"] > 0 and last["iteration_tokens"] >= last["generation_tokens"]
    assert last["waiting_capacity"] == last["waiting_deferred"] == 0
    assert last["engine_cpu_s"] > 0 and last["api_cpu_s"] > 0
    adapters = {row["lora_running"] for row in pq.read_table(folder / "tuned.parquet").to_pylist()}
    assert {0} <= adapters <= {None, 0, 1}


async def test_an_architecture_that_vllm_does_not_know(tmp_path: Path):
    model = build_tiny_model(tmp_path / "model")
    file = model.path / "config.json"
    file.write_text(file.read_text().replace("LlamaForCausalLM", "MadeUpForCausalLM"))
    plan = check([ServedVariant("odd", model)], CONFIG)
    with pytest.raises(
        SystemFailed, match=r"the server of odd died while it started: .*architecture.*odd\.log"
    ) as failure:
        async with Hosting(plan, ServerFolders(tmp_path / "logs"), Silent(), unreached).round(
            ["odd"]
        ):
            pass
    assert "MadeUpForCausalLM" in failure.value.detail
    assert children() == []


async def test_a_server_that_is_not_ready_in_time(tiny: ModelRef, tmp_path: Path):
    config = CONFIG.model_copy(update={"start_timeout": 1.0})
    plan = check([ServedVariant("base", tiny)], config)
    with pytest.raises(
        SystemFailed, match=r"the server of base not ready after 1 s \(serve\.start_timeout\)"
    ):
        async with Hosting(plan, ServerFolders(tmp_path), Silent(), unreached).round(["base"]):
            pass
    assert children() == []


PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from foundation.models.model import ModelRef
    from foundation.progress import Silent
    from serve import Hosting, ServedVariant, ServerFolders, check
    from serve.config import ServeConfig

    config = ServeConfig.model_validate(
        {"device": "cpu", "enforce_eager": True, "kv_cache": "64MiB"}
    )
    plan = check([ServedVariant("base", ModelRef("m", None, Path(sys.argv[1])))], config)

    async def main():
        async with Hosting(plan, ServerFolders(Path(sys.argv[2])), Silent(), None).round(["base"]):
            print("up", flush=True)
            await asyncio.sleep(600)

    asyncio.run(main())
    """
)


def test_a_program_that_is_ended_by_a_signal_leaves_no_server(tiny: ModelRef, tmp_path: Path):
    """SIGINT and SIGTERM while vLLM starts, SIGKILL when it is up; other cases: `test_warden`."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    command = [sys.executable, "-c", PROGRAM, str(tiny.path), str(tmp_path)]
    programs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in numbers
    ]
    for program, number in zip(programs, numbers, strict=True):
        assert program.stdout is not None
        if number == signal.SIGKILL:
            assert program.stdout.readline() == "up\n"
        family = _family_of(program, at_least=4 if number == signal.SIGKILL else 2)
        program.send_signal(number)
        assert left(family) == [], number.name
        program.wait(30)


def _family_of(program: subprocess.Popen[str], at_least: int) -> list[psutil.Process]:
    """The supervisor, vLLM's API server, and, when it is up, engine core and worker."""
    while len(family := psutil.Process(program.pid).children(recursive=True)) < at_least:
        time.sleep(0.1)
    return family


async def test_the_sampling_process_may_use_the_cores_of_both_sides(tmp_path: Path):
    """It starts while this process is on the load generator's cores."""
    api = Endpoint("prod", "http://127.0.0.1:9/v1", "m")
    cores = sorted(os.sched_getaffinity(0))
    plan = replace(
        check([ServedVariant("prod", None, elsewhere=api)], CONFIG),
        processors=frozenset(cores[-1:]),
    )

    async def settle(endpoint: Endpoint) -> Endpoint:
        return endpoint

    hosting = Hosting(plan, ServerFolders(tmp_path, tmp_path / "telemetry"), Silent(), settle)
    with on_processors(frozenset(cores[:1])):
        async with hosting.round(["prod"]):
            [sampler] = [p for p in children() if "serve.telemetry.sampler" in p.cmdline()]
            assert set(sampler.cpu_affinity()) == {cores[0], cores[-1]}


async def test_an_api_elsewhere_is_served_as_reaching_it_settled(tmp_path: Path):
    plan = check(
        [ServedVariant("prod", None, elsewhere=Endpoint("prod", "http://127.0.0.1:9", "m", "k"))],
        CONFIG,
    )
    messages: list[str] = []

    class Heard(Silent):
        def log(self, line: str) -> None:
            messages.append(line)

    async def settle(endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, base_url=endpoint.base_url + "/v1", notes=("its /v1",))

    hosting = Hosting(plan, ServerFolders(tmp_path), Heard(), settle)
    async with hosting.round(["prod"]) as endpoints:
        assert endpoints["prod"].base_url == "http://127.0.0.1:9/v1"
        assert endpoints["prod"].headers == {"Authorization": "Bearer k"}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hosting.watch(), 0.1)
    assert messages == ["prod: its /v1"]


async def test_an_api_elsewhere_that_can_not_be_reached_ends_the_round(tmp_path: Path):
    plan = check(
        [ServedVariant("prod", None, elsewhere=Endpoint("prod", "http://127.0.0.1:9/v1", "m"))],
        CONFIG,
    )

    async def refuse(endpoint: Endpoint) -> Endpoint:
        raise SystemFailed(f"{endpoint.variant}: no token could be generated")

    with pytest.raises(SystemFailed, match="prod: no token could be generated"):
        async with Hosting(plan, ServerFolders(tmp_path), Silent(), refuse).round(["prod"]):
            pass
