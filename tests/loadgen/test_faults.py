"""Every fault at the start of a block, under load and while it drains: its class, and no hang."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from foundation.http.endpoint import Endpoint
from foundation.progress import Silent
from foundation.run.records import RequestRecord
from loadgen import BlockPlan, Question, run_block
from loadgen.config import WorkloadConfig
from loadgen.event_loop import run
from tests.loadgen.conftest import StartEmulator, read_journal
from tests.loadgen.faulty_server import FAULTS, FaultyServer
from tests.loadgen.test_block_faults import FAULTS as EMULATED

DEADLINES = {"connect": "3s", "first": "2s", "stall": "1.5s", "total": "4s"}
LONGEST_S = 4 + 5
PHASES = ("start", "load", "drain")
ONE_BY_ONE = sorted(FAULTS.keys() - {"die"})


def asked(names: Sequence[str], phase: str) -> list[Question]:
    """Healthy requests, and one for each name before, among or after them."""
    healthy = [f"well-{number}" for number in range(20)]
    order = {
        "start": [*names, *healthy],
        "load": [
            *healthy[:5],
            *(name for pair in zip(names, healthy * 9, strict=False) for name in pair),
            *healthy[5:],
        ],
        "drain": [*healthy, *names],
    }[phase]
    return [
        Question(
            name,
            [{"role": "user", "content": name if name.startswith("well-") else f"fault:{name}"}],
        )
        for name in order
    ]


async def records_of(
    endpoint: Endpoint, questions: list[Question], transport: str, file: Path
) -> list[RequestRecord]:
    """One block at 100 requests/s."""
    stage = {"rate": 100, "arrivals": "constant", "requests": len(questions)}
    config = WorkloadConfig.model_validate(
        {"stages": [stage], "warmup": "0s", "transport": transport, "deadlines": DEADLINES}
    )
    plan = BlockPlan(endpoint, config.stages[0], 1, 0, questions, "plain", config)
    await asyncio.wait_for(run_block(plan, file, Silent(), asyncio.Event()), 60)
    journal = read_journal(file)
    assert journal.end is not None and len(journal.records) == len(questions)
    return journal.records


def judge(records: Sequence[RequestRecord], classes: dict[str, str | None]) -> list[str]:
    """The errors in the records of a block: a class not in the table, missing words, a hang."""
    wrong = []
    for record in records:
        expected = classes.get(record.prompt_id)
        if record.failure != expected:
            wrong.append(f"{record.prompt_id}: {record.failure} ({record.error}), not {expected}")
        if (record.error is None) != (record.failure is None):
            wrong.append(f"{record.prompt_id}: words {record.error!r}")
        if record.done_ns - record.scheduled_ns > LONGEST_S * 1e9:
            wrong.append(f"{record.prompt_id}: {(record.done_ns - record.scheduled_ns) / 1e9} s")
    return wrong


def test_every_fault_at_every_time_of_a_block(tmp_path: Path, receiver: str) -> None:
    classes = {name: failure for name, (_, failure) in FAULTS.items()}
    transports = ("socket", "aiohttp") if receiver == "compiled" else ("socket",)
    cases = [(transport, phase) for transport in transports for phase in PHASES]

    async def main() -> dict[str, list[str]]:
        async with FaultyServer() as server:
            blocks = [
                records_of(
                    server.endpoint,
                    asked(ONE_BY_ONE, phase),
                    transport,
                    tmp_path / f"{transport}-{phase}",
                )
                for transport, phase in cases
            ]
            return {
                str(case): judge(records, classes)
                for case, records in zip(cases, await asyncio.gather(*blocks), strict=True)
            }

    assert len(classes) >= 25
    assert run(main()) == {str(case): [] for case in cases}


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_a_redirect_in_the_middle_of_a_load_says_where_it_leads(
    tmp_path: Path, transport: str
) -> None:
    async def main() -> list[RequestRecord]:
        async with FaultyServer() as server:
            return await records_of(
                server.endpoint, asked(["redirect"], "drain"), transport, tmp_path / "block"
            )

    [record] = [record for record in run(main()) if record.prompt_id == "redirect"]
    assert record.error.startswith("HTTP 302") and record.error.endswith(
        "(it redirects to /v1/chat/completions)"
    )


# An installed package may bring a `tests` of its own.
FINDS_TESTS = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
WITHOUT_C = """
import json, sys
from pathlib import Path
from loadgen.event_loop import run
from tests.loadgen.test_faults import FAULTS, ONE_BY_ONE, FaultyServer, asked, judge, records_of

async def main():
    async with FaultyServer() as server:
        # A TLS alert would wait for the end of a line that never comes.
        names = [name for name in ONE_BY_ONE if name != "tls-alert"]
        return await records_of(server.endpoint, asked(names, "load"), "aiohttp", Path(sys.argv[1]))

print(json.dumps(judge(run(main()), {name: failure for name, (_, failure) in FAULTS.items()})))
"""


def test_every_fault_where_aiohttp_has_no_c_parser(tmp_path: Path) -> None:
    """Its parser in Python raises what its parser in C keeps to itself."""
    command = [sys.executable, "-c", WITHOUT_C, str(tmp_path / "block")]
    environment = FINDS_TESTS | {"AIOHTTP_NO_EXTENSIONS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert json.loads(done.stdout or "null") == [], done.stderr
    assert "never retrieved" not in done.stderr


SCARCE = """
import json, resource, sys
from pathlib import Path
from foundation.http.endpoint import Endpoint
from loadgen.event_loop import run
from tests.loadgen.test_faults import asked, records_of

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
endpoint = Endpoint("variant", sys.argv[1], "m")
records = run(records_of(endpoint, asked([], "drain") * 5, sys.argv[2], Path(sys.argv[3])))
print(json.dumps([record.failure for record in records]))
"""


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_requests_without_a_file_descriptor_fail_and_the_block_goes_on(
    emulator: StartEmulator, tmp_path: Path, transport: str
) -> None:
    url = emulator("--ttft", "1s", "--tokens", "1").endpoint.base_url
    command = [sys.executable, "-c", SCARCE, url, transport, str(tmp_path / "block")]
    done = subprocess.run(command, capture_output=True, text=True, env=FINDS_TESTS, check=False)
    assert set(json.loads(done.stdout or "[]")) == {None, "connect"}, done.stderr


def test_the_emulator_s_faults_at_every_time_of_a_block(
    emulator: StartEmulator, tmp_path: Path
) -> None:
    endpoint = emulator("--ttft", "5ms", "--itl", "1ms", "--tokens", "30").endpoint
    cases = [(transport, phase) for transport in ("socket", "aiohttp") for phase in PHASES]

    async def main() -> dict[str, list[str]]:
        blocks = [
            records_of(
                endpoint,
                asked(sorted(EMULATED), phase),
                transport,
                tmp_path / f"{transport}-{phase}",
            )
            for transport, phase in cases
        ]
        return {
            str(case): judge(records, EMULATED)
            for case, records in zip(cases, await asyncio.gather(*blocks), strict=True)
        }

    assert run(main()) == {str(case): [] for case in cases}


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_a_server_that_dies_at_any_time_of_a_block(tmp_path: Path, transport: str) -> None:
    """Its own request and those in flight are reset, those well after it find nobody."""

    async def main() -> list[list[RequestRecord]]:
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(FaultyServer()) for _ in PHASES]
            blocks = [
                records_of(server.endpoint, asked(["die"], phase), transport, tmp_path / phase)
                for server, phase in zip(servers, PHASES, strict=True)
            ]
            return await asyncio.gather(*blocks)

    for phase, records in zip(PHASES, run(main()), strict=True):
        ended = [record.failure for record in sorted(records, key=lambda record: record.id)]
        place = next(
            at for at, question in enumerate(asked(["die"], phase)) if question.id == "die"
        )
        # On a connection that was kept it is asked again, once, and then there is nobody.
        assert ended[place] in ("reset", "connect"), phase
        assert set(ended) <= {None, "connect", "reset", "truncated"}, phase
        assert ended[-1] in ("reset", "connect"), phase
        assert max(record.done_ns - record.scheduled_ns for record in records) < LONGEST_S * 1e9


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_nobody_listens_at_any_time_of_a_block(tmp_path: Path, transport: str) -> None:
    endpoint = Endpoint("variant", "http://127.0.0.1:9/v1", "m")
    records = run(records_of(endpoint, asked([], "drain"), transport, tmp_path / "block"))
    assert {record.failure for record in records} == {"connect"}


def test_tls_to_a_server_that_speaks_plainly(tmp_path: Path) -> None:
    async def main() -> list[RequestRecord]:
        async with FaultyServer() as server:
            endpoint = Endpoint("variant", f"https://127.0.0.1:{server.port}/v1", "m")
            return await records_of(endpoint, asked([], "drain"), "auto", tmp_path / "block")

    assert {record.failure for record in run(main())} == {"tls"}


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_plain_words_to_a_server_that_speaks_tls(tmp_path: Path, transport: str) -> None:
    async def main() -> list[RequestRecord]:
        async with FaultyServer(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as server:
            return await records_of(
                server.endpoint, asked([], "drain"), transport, tmp_path / "block"
            )

    # Some send an alert before they close.
    assert {record.failure for record in run(main())} <= {"reset", "malformed"}
