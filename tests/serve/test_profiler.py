"""vLLM's profiler routes, against an imitation of them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from foundation.errors import SystemFailed
from foundation.http.endpoint import Endpoint
from foundation.models.model import ModelRef
from serve import ServedVariant, check
from serve.config import ServeConfig
from serve.vllm import profiler
from serve.vllm.profiler import (
    options,
    profiled,
    start_profile,
    stop_profile,
    worker_cores,
    written_traces,
)


class Imitation:
    """Answers like vLLM 0.32: starts once, and takes a stop at any time."""

    def __init__(self) -> None:
        self.active = False
        self.bodies: list[bytes] = []
        self.stops = 0

    def app(self) -> web.Application:
        async def start(request: web.Request) -> web.Response:
            assert request.headers["Authorization"] == "Bearer key"
            if self.active:
                return web.Response(status=409, text="key: a profile is active already")
            self.active = True
            self.bodies.append(await request.read())
            return web.Response()

        async def stop(_: web.Request) -> web.Response:
            self.active, self.stops = False, self.stops + 1
            return web.Response()

        application = web.Application()
        application.add_routes([web.post("/start_profile", start), web.post("/stop_profile", stop)])
        return application


def endpoint(server: TestServer) -> Endpoint:
    return Endpoint("int8", str(server.make_url("/v1")), "int8", "key")


async def test_a_profile_starts_and_stops_even_when_its_steps_are_over() -> None:
    imitation = Imitation()
    async with TestServer(imitation.app()) as server:
        await start_profile(endpoint(server))
        await stop_profile(endpoint(server))
        await stop_profile(endpoint(server))
    assert imitation.bodies == [b""]
    assert imitation.stops == 2


async def test_a_server_without_the_routes_gives_one_sentence() -> None:
    async with TestServer(web.Application()) as server:
        with pytest.raises(SystemFailed, match=r"int8 has no /start_profile: .*torch profiler"):
            await start_profile(endpoint(server))


async def test_a_refusal_names_route_and_status() -> None:
    imitation = Imitation()
    async with TestServer(imitation.app()) as server:
        await start_profile(endpoint(server))
        with pytest.raises(SystemFailed, match=r"refused /start_profile: HTTP 409") as error:
            await start_profile(endpoint(server))
    assert "already" in error.value.detail


async def test_a_server_that_is_gone_gives_one_sentence() -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    application = web.Application()
    application.add_routes([web.post("/stop_profile", hang_up)])
    async with TestServer(application) as server:
        gone = endpoint(server)
        with pytest.raises(SystemFailed, match="int8 did not answer /stop_profile"):
            await stop_profile(gone)
    with pytest.raises(SystemFailed, match="int8 did not answer /start_profile"):
        await start_profile(gone)


async def test_a_worker_that_writes_for_too_long_asks_for_fewer_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = asyncio.Event()

    async def write(_: web.Request) -> web.Response:
        await written.wait()
        return web.Response()

    application = web.Application()
    application.add_routes([web.post("/stop_profile", write)])
    monkeypatch.setattr(profiler, "STOP_S", 0.05)
    async with TestServer(application) as server:
        with pytest.raises(SystemFailed, match=r"more than 0.05 s .*; profile fewer steps"):
            await stop_profile(endpoint(server))
        written.set()


def test_options_name_an_absolute_folder(tmp_path: Path) -> None:
    folder = Path(os.path.relpath(tmp_path))
    assert f"--profiler-config.torch_profiler_dir={folder.absolute()}" in options(folder, 8, 64)
    assert all(option.startswith("--profiler-config.") for option in options(folder, 8, 64))


def test_the_steps_are_options_since_older_routes_take_none(tmp_path: Path) -> None:
    line = options(tmp_path, 8, 64)
    assert "--profiler-config.delay_iterations=8" in line
    assert "--profiler-config.max_iterations=64" in line


def test_the_engine_waits_for_the_trace_and_keeps_its_other_variables(
    tiny: ModelRef, tmp_path: Path
) -> None:
    config = ServeConfig.model_validate({"device": "cpu", "kv_cache": "64MiB", "memory": "64GB"})
    plan = check([ServedVariant("base", tiny)], config)
    [before], [after] = plan.servers, profiled(plan, "base", tmp_path, 8, 64).servers
    waits = {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "900"}
    assert dict(after.variables) == {**before.variables, **waits}


def test_of_routed_replicas_the_first_is_profiled_alone(
    tiny: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router has no route that starts a profile."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "fake_router"))
    config = ServeConfig.model_validate(
        {"device": "cpu", "kv_cache": "64MiB", "memory": "64GB", "replicas": 2}
        | {"router": "vllm-router"}
    )
    plan = check([ServedVariant("base", tiny)], config)
    assert [each.is_routed for each in plan.servers] == [True, True]
    [only] = profiled(plan, "base", tmp_path, 8, 64).servers
    assert (only.name, only.replica, only.replicas) == ("base.replica-1", 0, 1)
    assert not only.is_routed


def test_the_first_workers_traces_are_seen_oldest_first(tmp_path: Path) -> None:
    names = ("int8_rank0.2.pt.trace.json.gz", "int8_rank0.1.pt.trace.json.gz")
    for age, name in enumerate((*names, "int8_rank1.1.pt.trace.json.gz")):
        file = tmp_path / name
        file.touch()
        os.utime(file, ns=(age, age))
    assert [file.name for file in written_traces(tmp_path)] == list(names)


def test_the_workers_cores_are_read_from_the_last_start(tmp_path: Path) -> None:
    log = tmp_path / "int8.log"
    log.write_text("local_rank=0, core ids=[0]\n... local_rank=0, core ids=[2, 3]\n")
    assert worker_cores(log) == {2, 3}
    log.write_text("INFO on a GPU\n")
    assert worker_cores(log) == set()
