"""Servers that die, hang, or are not ours, with a stand-in for vLLM: processes and ports."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import psutil
import pytest

from benchmarks.kills.rig import shared_memory
from foundation.errors import BadInput
from foundation.http.endpoint import Endpoint
from foundation.models.model import ModelRef
from foundation.progress import Silent
from serve import Hosting, ServedVariant, ServerFailed, ServerFolders, check, curl_line
from serve.config import ServeConfig
from serve.placement import check_router
from tests.serve.stranger import Stranger
from tests.weightless_model import write_weightless_model

FAKE = Path(__file__).parent / "fake_vllm"
SECTION = {"device": "cpu", "kv_cache": "1MiB", "memory": "64GiB", "dtype": "float32"}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-in for vLLM, and a folder for temporary files in which nothing may be left."""
    import tempfile

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE), os.environ.get("PYTHONPATH", "")]))
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    folder.rmdir()


@pytest.fixture
def model(tmp_path: Path) -> ModelRef:
    return write_weightless_model(tmp_path / "model")


@pytest.fixture
def others(tmp_path: Path) -> ModelRef:
    """In another folder, so that it gets a server of its own."""
    return write_weightless_model(tmp_path / "others")


async def unreached(endpoint: Endpoint) -> Endpoint:
    raise AssertionError(endpoint)


class Bench:
    """Two servers up, `a` and `b`."""

    def __init__(self, hosting: Hosting, endpoints: dict[str, Endpoint]) -> None:
        self.hosting, self.endpoints = hosting, endpoints
        self.shared = set[Path]().union(
            *(shared_memory(p.pid) for name in endpoints for p in self.processes(name))
        )
        assert len(self.shared) == len(endpoints), "each engine has some"

    def processes(self, variant: str) -> list[psutil.Process]:
        """Two supervisors, API server and engine; the resource tracker may be one more."""
        root = psutil.Process(next(s for s in self.hosting._up if s.plan.name == variant).pid)
        return [
            root,
            *(
                p
                for p in root.children(recursive=True)
                if "resource_tracker" not in " ".join(p.cmdline())
            ),
        ]


@asynccontextmanager
async def bench(
    a: ModelRef, b: ModelRef, logs: Path, partly: bool = False, patience: float = 60.0
) -> AsyncIterator[Bench]:
    config = ServeConfig.model_validate(SECTION)
    plan = check([ServedVariant("a", a), ServedVariant("b", b)], config)
    hosting = Hosting(plan, ServerFolders(logs), Silent(), unreached, patience=patience)
    before = set(psutil.Process().children(recursive=True))
    try:
        async with hosting.round(["a", "b"], partly=partly) as endpoints:
            up = Bench(hosting, endpoints)
            yield up
        for _ in range(100):  # a killed supervisor's other half may need a moment
            if not any(file.exists() for file in up.shared):
                break
            await asyncio.sleep(0.1)
        assert not any(file.exists() for file in up.shared)
    finally:
        left = [
            p
            for p in psutil.Process().children(recursive=True)
            if p not in before and "tracker" not in " ".join(p.cmdline())
        ]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        assert left == []


async def test_a_servers_processes_stay_on_the_processors_of_the_plan(
    model: ModelRef, tmp_path: Path
):
    last, before = frozenset({max(os.sched_getaffinity(0))}), os.sched_getaffinity(0)
    plan = check([ServedVariant("a", model)], ServeConfig.model_validate(SECTION))
    hosting = Hosting(replace(plan, processors=last), ServerFolders(tmp_path), Silent(), unreached)
    async with hosting.round(["a"]):
        root = next(server.pid for server in hosting._up)
        family = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
        assert len(family) >= 3
        assert {frozenset(process.cpu_affinity()) for process in family} == {last}
    assert os.sched_getaffinity(0) == before


async def failing(hosting: Hosting) -> ServerFailed:
    """What watching ends with."""
    with pytest.raises(ServerFailed) as failure:
        await asyncio.wait_for(hosting.watch(), 30)
    return failure.value


@pytest.mark.parametrize("which", ["API server", "engine"])
async def test_a_death_is_the_failure_of_one_server(
    model: ModelRef, others: ModelRef, tmp_path: Path, which: str
):
    async with bench(model, others, tmp_path) as up:
        family = up.processes("a")
        family[2 if which == "API server" else 3].kill()
        if which == "engine":
            with pytest.raises(ServerFailed):
                await up.hosting.check_answers(up.endpoints["a"])
        failure = await failing(up.hosting)
        assert failure.variants == ("a",)
        assert "died while it was under load" in str(failure)
        assert ("SIGKILL" in str(failure)) == (which == "API server")
        assert ("EngineDeadError" in failure.detail) == (which == "engine")
        assert "chatter" not in failure.detail
        await up.hosting.drop(failure)
        assert psutil.wait_procs(family, timeout=5)[1] == []
        assert list(up.hosting.failed) == ["a"]
        await up.hosting.ready(["b"])
        await up.hosting.check_answers(up.endpoints["b"])


@pytest.mark.parametrize("which", [2, 3], ids=["API server", "engine"])
async def test_a_server_that_was_stopped_is_noticed_once_and_soon(
    model: ModelRef, others: ModelRef, tmp_path: Path, which: int
):
    async with bench(model, others, tmp_path, patience=1.0) as up:
        family = up.processes("b")
        family[which].suspend()
        failure = await failing(up.hosting)
        assert failure.variants == ("b",) and "hangs" in str(failure)
        await up.hosting.drop(failure)
        assert psutil.wait_procs(family, timeout=5)[1] == []
        await up.hosting.check_answers(up.endpoints["a"])


@pytest.mark.parametrize("killed", [[0], [1], [0, 1]], ids=["first", "second", "both"])
async def test_a_supervisor_that_is_killed_leaves_nothing(
    model: ModelRef, others: ModelRef, tmp_path: Path, killed: list[int]
):
    async with bench(model, others, tmp_path) as up:
        family = up.processes("a")
        for place in killed:
            family[place].kill()
        failure = await failing(up.hosting)
        assert failure.variants == ("a",)
        await up.hosting.drop(failure)
        assert psutil.wait_procs(family, timeout=20)[1] == []


async def test_one_server_does_not_start_and_the_other_is_served(
    model: ModelRef, others: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_VLLM_BREAKS", "b")
    async with bench(model, others, tmp_path, partly=True) as up:
        assert list(up.endpoints) == ["a"]
        assert "died while it started" in str(up.hosting.failed["b"])
        assert up.hosting.failed["b"].detail == "ValueError: this model is broken"
    with pytest.raises(
        ServerFailed,
        match="the server of b died while it started: ValueError: this model is broken",
    ):
        async with bench(model, others, tmp_path):
            pass


async def _started(hosting: Hosting) -> None:
    for _ in range(1_000_000):
        if hosting._up and hosting._up[0].pid:
            return
        await asyncio.sleep(0)


async def test_a_stranger_on_the_port_hears_nothing(model: ModelRef, tmp_path: Path):
    """It bound the port first, as SO_REUSEADDR allows, and listens when our server starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stranger = Stranger(port)
    config = ServeConfig.model_validate({**SECTION, "ports": f"{port}-{port}"})
    plan = check([ServedVariant("a", model)], config)
    hosting = Hosting(plan, ServerFolders(tmp_path), Silent(), unreached)

    async def serve() -> None:
        async with hosting.round(["a"]):
            raise AssertionError("the stranger was taken for our server")

    serving = asyncio.ensure_future(serve())
    await _started(hosting)
    stranger.start()
    with pytest.raises(
        ServerFailed,
        match=rf"its port {port} for itself: process {os.getpid()} .* listens there|"
        r"its port was taken",
    ):
        await serving
    assert stranger.heard == b""
    stranger.close()


async def test_a_server_whose_port_a_stranger_takes_over_gets_no_more_requests(
    model: ModelRef, others: ModelRef, tmp_path: Path
):
    async with bench(model, others, tmp_path) as up:
        port = int(up.endpoints["a"].base_url.rpartition(":")[2].removesuffix("/v1"))
        with pytest.raises(OSError):
            Stranger(port)
        up.processes("a")[2].send_signal(signal.SIGKILL)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            with pytest.raises(OSError):
                Stranger(port)
        with pytest.raises(ServerFailed):
            await up.hosting.ready(["a"])


async def test_replicas_are_up_watched_and_ended_together(model: ModelRef, tmp_path: Path):
    config = ServeConfig.model_validate({**SECTION, "replicas": 2})
    plan = check([ServedVariant("a", model)], config)
    folders = ServerFolders(tmp_path / "logs", tmp_path / "telemetry")
    hosting = Hosting(plan, folders, Silent(), unreached)
    async with hosting.round(["a"], partly=True) as endpoints:
        first, second = endpoints["a"].replicas
        assert first.base_url != second.base_url and first.api_key == second.api_key
        await hosting.sample()
        await hosting.check_answers(endpoints["a"])
        roots = [psutil.Process(server.pid) for server in hosting._up]
        families = [p for root in roots for p in (root, *root.children(recursive=True))]
        roots[1].children(recursive=True)[1].kill()  # the API server
        failure = await failing(hosting)
        assert failure.variants == ("a",) and str(failure).startswith("replica 2 of a died while")
        assert "a.replica-2.log" in str(failure)
        assert await hosting.drop(failure) == ["a"]
        assert hosting._up == [] and list(hosting.failed) == ["a"]
        assert psutil.wait_procs(families, timeout=10)[1] == []
    assert sorted(file.name for file in (tmp_path / "telemetry").iterdir()) == [
        "a.parquet",
        "a.replica-1.parquet",
        "a.replica-2.parquet",
    ]


async def test_a_server_beyond_this_machine_has_the_key_that_was_named(
    model: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    section = {**SECTION, "host": "0.0.0.0", "api_key_env": "SERVED_KEY"}
    config = ServeConfig.model_validate(section)
    monkeypatch.delenv("SERVED_KEY", raising=False)
    with pytest.raises(BadInput, match="the environment has no SERVED_KEY; export it"):
        check([ServedVariant("a", model)], config)
    monkeypatch.setenv("SERVED_KEY", "s3rved-t0-others")
    plan = check([ServedVariant("a", model)], config)
    hosting = Hosting(plan, ServerFolders(tmp_path), Silent(), unreached)
    async with hosting.round(["a"]) as endpoints:
        endpoint = endpoints["a"]
        assert endpoint.base_url.startswith("http://127.0.0.1:")
        assert endpoint.api_key == "s3rved-t0-others"
        assert "s3rved" not in curl_line(endpoint) and "${SERVED_KEY}" in curl_line(endpoint)
        hosting.check(["a"])
        port = int(endpoint.base_url.rpartition(":")[2].removesuffix("/v1"))
        with socket.socket() as probe, pytest.raises(OSError):
            probe.bind(("127.0.0.1", port))
            probe.listen()


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"host": "0.0.0.0"}, r"host: other machines reach 0\.0\.0\.0; write api_key_env"),
        ({"host": "10.1.2.3"}, r"host: other machines reach 10\.1\.2\.3"),
        ({"host": "head"}, r"'head' is no IPv4 address; write 0\.0\.0\.0"),
        ({"api_key_env": "sk-abcdefgh12345"}, "and not the key itself"),
    ],
)
def test_an_address_that_others_reach_needs_a_key(section: dict[str, str], says: str):
    with pytest.raises(ValueError, match=says):
        ServeConfig.model_validate(section)
    assert ServeConfig.model_validate({"host": "127.0.0.2"}).host == "127.0.0.2"


async def test_a_router_before_replicas_is_one_address_and_its_death_their_failure(
    model: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    router = Path(__file__).parent / "fake_router"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(router), os.environ["PYTHONPATH"]]))
    monkeypatch.syspath_prepend(str(router))
    config = ServeConfig.model_validate({**SECTION, "replicas": 2, "router": "vllm-router"})
    hosting = Hosting(
        check([ServedVariant("a", model)], config), ServerFolders(tmp_path), Silent(), unreached
    )
    async with hosting.round(["a"], partly=True) as endpoints:
        endpoint = endpoints["a"]
        assert endpoint.servers == 2 and len(endpoint.replicas) == 1
        assert endpoint.first == hosting._up[0].endpoints[0]
        addresses = {endpoint.base_url, *(each.base_url for each in endpoint.routed)}
        assert len(addresses) == 3
        roots = [psutil.Process(each.pid) for each in hosting._up]
        roots.append(psutil.Process(hosting._routers[0]._run.pid))
        families = [p for root in roots for p in (root, *root.children(recursive=True))]
        body = {"model": "a", "prompt": "the last straw"}
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.post(f"{endpoint.base_url}/completions", json=body)
        failure = await failing(hosting)
        assert str(failure).startswith("the router of a ended while it was under load")
        assert await hosting.drop(failure) == ["a"]
        assert psutil.wait_procs(families, timeout=10)[1] == []


def test_a_router_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "vllm" or None)
    config = ServeConfig.model_validate({**SECTION, "replicas": 2, "router": "vllm-router"})
    with pytest.raises(BadInput, match=r"serve\.router: vllm-router is not installed; pip install"):
        check_router(config)
    check_router(ServeConfig.model_validate({**SECTION, "router": "vllm-router"}))
