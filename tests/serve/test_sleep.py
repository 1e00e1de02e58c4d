"""One server awake at a time, against an imitation of vLLM's routes: CPUs have no sleep mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from foundation.errors import BadInput
from foundation.http.endpoint import Endpoint
from foundation.models.model import ModelRef
from serve import ServedVariant, ServerFailed, check
from serve.config import ServeConfig
from serve.vllm.sleep import OneAwake, fall_asleep


class Imitation:
    """Answers like vLLM 0.32's sleep routes, and records requests, servers and who was awake."""

    def __init__(self) -> None:
        self.awake: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.insomniac = False

    def app(self, name: str) -> web.Application:
        async def sleep(request: web.Request) -> web.Response:
            assert request.query["level"] == "1"
            self.asked.append((name, "sleep"))
            if not self.insomniac:
                self.awake.discard(name)
            return web.json_response({"status": "sleeping"})

        async def wake(request: web.Request) -> web.Response:
            assert not self.awake, "two would have to share the memory"
            self.asked.append((name, "wake"))
            self.awake.add(name)
            return web.json_response({"status": "awake"})

        async def is_sleeping(request: web.Request) -> web.Response:
            return web.json_response({"is_sleeping": name not in self.awake})

        async def complete(request: web.Request) -> web.Response:
            self.asked.append((name, "token"))
            return web.json_response(
                {"choices": [{"text": "x"}]}, status=200 if name in self.awake else 500
            )

        application = web.Application()
        application.add_routes(
            [
                web.post("/sleep", sleep),
                web.post("/wake_up", wake),
                web.get("/is_sleeping", is_sleeping),
            ]
        )
        application.add_routes([web.post("/v1/completions", complete)])
        return application


@asynccontextmanager
async def servers(imitation: Imitation, *names: str) -> AsyncIterator[dict[str, Endpoint]]:
    async with AsyncExitStack() as stack:
        running = {}
        for name in names:
            server = await stack.enter_async_context(TestServer(imitation.app(name)))
            running[name] = Endpoint(name, str(server.make_url("/v1")), name, "key")
        yield running


async def test_one_is_awake_at_a_time_and_has_generated_a_token() -> None:
    imitation = Imitation()
    async with servers(imitation, "base", "tuned") as running:
        second_of_base = Endpoint("base-short", running["base"].base_url, "base-short", "key")
        one = OneAwake([[running["base"], second_of_base], [running["tuned"]]])
        for variant in ("base", "base-short", "tuned", "prod", "tuned", "base"):
            await one.wake(variant)
    assert imitation.asked == [
        ("base", "wake"), ("base", "token"), ("base", "sleep"), ("tuned", "wake"),
        ("tuned", "token"), ("tuned", "sleep"), ("base", "wake"), ("base", "token"),
    ]  # fmt: skip


async def test_a_server_that_failed_is_not_put_to_sleep_any_more() -> None:
    imitation = Imitation()
    async with servers(imitation, "base", "tuned") as running:
        second_of_base = Endpoint("base-short", running["base"].base_url, "base-short", "key")
        one = OneAwake([[running["base"], second_of_base], [running["tuned"]]])
        await one.wake("base")
        imitation.awake.discard("base")  # its server died
        one.forget(["base-short"])
        await one.wake("tuned")
    assert ("base", "sleep") not in imitation.asked and imitation.asked[-1] == ("tuned", "token")


async def test_what_does_not_sleep_or_does_not_answer_is_said() -> None:
    imitation = Imitation()
    imitation.awake, imitation.insomniac = {"base"}, True
    async with servers(imitation, "base") as running:
        with pytest.raises(ServerFailed, match="base did not fall asleep"):
            await fall_asleep(running["base"])
        endpoint = running["base"]
    with pytest.raises(ServerFailed, match="base did not answer /sleep") as failure:
        await fall_asleep(endpoint)
    assert failure.value.variants == ("base",)


def test_the_plan_of_servers_that_sleep() -> None:
    variants = [
        ServedVariant(name, ModelRef(f"org/{name}-8B", None, Path("/nonexistent") / name))
        for name in ("base", "tuned")
    ]
    config = ServeConfig.model_validate({"device": "cuda", "memory": "80GB", "residency": "sleep"})
    plan = check(variants, config)
    assert (plan.residency, plan.rounds) == ("sleep", (("base", "tuned"),))
    assert all("--enable-sleep-mode" in server.arguments for server in plan.servers)
    assert any("32.0 GB of weights in the host's memory" in note for note in plan.notes)
    with pytest.raises(BadInput, match="no sleep mode on a CPU"):
        check(variants, config.model_copy(update={"device": "cpu"}))
