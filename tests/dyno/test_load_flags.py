"""The flags of `dyno load` and `dyno baseline`: results, refusals, and requests over the wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dyno.cli import app
from dyno.commands.baseline import BaselineRequests, baseline_experiment
from dyno.commands.load import load_experiment_for
from dyno.experiment.from_flags.load_shape import LoadShape, planned_load
from dyno.experiment.from_flags.prompt_source import PromptSource
from dyno.experiment.from_flags.target import Target, model_or_target
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from loadgen.schedule.arrivals import planned_requests
from tests.dyno.test_cli import COMMANDS, dyno

URL = "http://127.0.0.1:1/v1"


def made(
    target: dict[str, Any] | None = None, asked: dict[str, Any] | None = None, **load: Any
) -> Experiment:
    return load_experiment_for(
        Target(**{"url": URL, "model": "m", **(target or {})}),
        PromptSource(**(asked or {"prompt": "Q"})),
        LoadShape(**load),
        "load",
    )


def measured(experiment: Experiment) -> list[int]:
    """Requests that each block measures, warm-up left out."""
    stage, workload = experiment.workload.stages[0], experiment.workload
    counts = [
        planned_requests(stage.in_block(b), workload.seed, b, 0.0)
        for b in range(1, workload.blocks + 1)
    ]
    return [count or 0 for count in counts]


@pytest.mark.parametrize(
    ("load", "blocks"),
    [
        ({"rates": ["10"]}, [100] * 5),
        ({"rates": ["10"], "requests": 103}, [21, 21, 21, 20, 20]),
        ({"rates": ["10"], "requests": 7}, [7]),
        ({"rates": ["10"], "requests": 39}, [13, 13, 13]),
        ({"concurrencies": [64], "requests": 500}, [167, 167, 166]),
        ({"concurrencies": [800], "requests": 800}, [800]),
        ({"concurrencies": [1, 16], "requests": 100}, [34, 33, 33]),
        ({"concurrencies": [64], "requests": 500, "blocks": 7}, [72, 72, 72, 71, 71, 71, 71]),
    ],
)  # fmt: skip
def test_requests_are_divided_fairly_and_their_sum_is_what_was_asked(
    load: dict[str, Any], blocks: list[int]
) -> None:
    assert measured(made(**load)) == blocks


@pytest.mark.parametrize(("duration", "blocks"), [("60s", 5), ("12s", 2), ("3s", 1)])
def test_a_duration_is_of_all_blocks_together(duration: str, blocks: int) -> None:
    workload = made(rates=["10"], duration=duration).workload
    assert workload.blocks == blocks
    assert workload.stages[0].duration == pytest.approx(float(duration[:-1]) / blocks)


def test_keys_to_leave_out_reach_the_data() -> None:
    data = made(asked={"data": Path("d.jsonl"), "ignore": ["lang", "id"]}, rates=["10"]).data
    assert (data.eval, data.ignore) == ("d.jsonl", ("lang", "id"))


def test_what_is_measured_is_said_before() -> None:
    assert planned_load(made(concurrencies=[4], requests=103)) == (
        "103 requests of the load are measured, in 5 blocks; "
        "a warm-up of 1 s before each block comes on top"
    )
    assert planned_load(made(concurrencies=[1, 800], requests=800, warmup="0s")) == (
        "800 requests of each load are measured, in one block; "
        "dyno compare needs several blocks (--blocks) to tell two runs apart"
    )
    assert planned_load(made(rates=["5"], duration="60s")).startswith(
        "60 s of the load are measured, in 5 blocks; "
    )


def test_several_loads_are_stages_of_one_run() -> None:
    assert [stage.label for stage in made(rates=["1", "2.5", "600/min"]).workload.stages] == [
        "rate-1",
        "rate-2.5",
        "rate-10",
    ]
    assert [s.concurrency for s in made(concurrencies=[1, 8, 64]).workload.stages] == [1, 8, 64]


def test_the_other_flags_reach_their_fields(tmp_path: Path) -> None:
    target = {
        "headers": ["api-key: ${KEY}", "x: a:b"],
        "extra_body": '{"priority": 1}',
        "ca_file": tmp_path / "ca.pem",
        "insecure": True,
        "api_key_env": "PROD",
    }
    load = {
        "warmup": "250ms",
        "timeout": "90s",
        "seed": 3,
        "temperature": 0.5,
        "ignore_eos": True,
        "slo": ["latency_p95=400ms"],
    }
    experiment = made(target, rates=["5"], **load)
    [variant] = experiment.variants
    assert variant.request is not None
    assert variant.request.headers == {"api-key": "${KEY}", "x": "a:b"}
    assert variant.request.extra == {"ignore_eos": True, "priority": 1}
    assert (variant.request.ca_file, variant.request.insecure) == (tmp_path / "ca.pem", True)
    workload = experiment.workload
    assert (
        workload.warmup,
        workload.seed,
        workload.sampling.seed,
        workload.sampling.temperature,
    ) == (0.25, 3, 3, 0.5)
    assert (workload.deadlines.first, workload.deadlines.stall, workload.deadlines.total) == (
        90,
        90,
        90,
    )
    assert workload.deadlines.connect == 5
    assert list(experiment.slo.limits) == ["latency_p95"]


@pytest.mark.parametrize(
    ("url", "api", "found"),
    [
        (f"{URL}/completions", None, "completions"),
        (f"{URL}/chat/completions", None, "chat"),
        (URL, None, "chat"),
        (URL, "completions", "completions"),
        ("${PROD_URL}", None, "chat"),
    ],
)
def test_the_api_goes_by_the_url_where_no_flag_says(url: str, api: str | None, found: str) -> None:
    assert made({"url": url, "api": api}, rates=["5"]).workload.api == found


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--rate", "5", "--requests", "0"], "--requests: 0 measures nothing; write 1 or more"),
        (["--concurrency", "0"], "--concurrency: 0 measures nothing; write 1 or more"),
        (
            ["--concurrency", "8", "--concurrency", "-1"],
            "--concurrency: -1 measures nothing; write 1 or more",
        ),
        (["--rate", "0"], "--rate: write a rate above zero"),
        (["--rate", "5", "--blocks", "0"], "--blocks: 0 measures nothing; write 1 or more"),
        (["--rate", "5", "--blocks", "9", "--requests", "8"], "--blocks: 9 blocks need 9 requests"),
        (["--rate", "5", "--rate", "5"], "--rate: 5 is there twice"),
        (["--rate", "5", "--rate", "5.0/s"], "--rate: 5 is there twice"),
        (
            ["--rate", "5", "--concurrency", "5"],
            "write --rate (open loop, requests/s) or --concurrency (closed loop), not both",
        ),
        (
            ["--rate", "5", "--requests", "5", "--duration", "5s"],
            "write --requests or --duration, not both",
        ),
        (["--rate", "5", "--duration", "5"], "--duration: write a duration with its unit"),
        (["--rate", "5", "--duration", "0s"], "--duration: 0s measures nothing"),
        (["--rate", "5", "--warmup", "5"], "--warmup: write a duration with its unit"),
        (["--rate", "5", "--timeout", "0s"], "--timeout: no answer comes in no time"),
        (["--rate", "5", "--header", "sekret"], "--header: write 'Name: value'"),
        (["--rate", "5", "--header", "a b: sekret"], "--header: 'a b' is no header's name"),
        (["--rate", "5", "--extra-body", "{"], "--extra-body: write a JSON object"),
        (["--rate", "5", "--extra-body", "[]"], "--extra-body: write a JSON object"),
        (
            ["--rate", "5", "--extra-body", '{"stream": false}'],
            "--extra-body: stream stays as it is",
        ),
        (["--rate", "5", "--slo", "latency_p95"], "--slo: write METRIC=LIMIT"),
        (["--rate", "5", "--slo", "latency_p95=soon"], "--slo: latency_p95: write a duration"),
        (["--rate", "5", "--slo", "speed=1s"], "--slo: "),
        (["--rate", "5", "--api", "soap"], "--api: "),
        (
            ["--rate", "5", "--url", "https://bob:sekret@h:x/v1"],
            "--url: 'https://h:x/v1': no host and port",
        ),
        (
            ["--rate", "5", "--url", "https://bob:sekret@[::1/v1"],
            "--url: 'https://...': no host and port",
        ),
        (
            ["--rate", "5", "--url", "https://h/v1/embeddings"],
            "--url: 'https://h/v1/embeddings': /embeddings is another API",
        ),
    ],
)
def test_a_flag_that_is_wrong_is_refused_by_its_name(
    flags: Sequence[str], says: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as refused:
        app(
            args=["load", "--url", URL, "--model", "m", "--prompt", "Q", *flags],
            standalone_mode=False,
        )
    assert str(refused.value).startswith(says)
    assert "sekret" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_baseline_of_flags() -> None:
    experiment = baseline_experiment(
        model_or_target(Target(url=URL, model="m", headers=("a: b",))),
        BaselineRequests(prompt="Q"),
        "baseline",
    )
    assert measured(experiment) == [4] * 5
    assert [stage.concurrency for stage in experiment.workload.stages] == [1]
    assert (
        baseline_experiment(
            "folder", BaselineRequests(prompt="Q", requests=3), "baseline"
        ).workload.blocks
        == 3
    )
    with pytest.raises(BadInput, match="--requests: 0 measures nothing"):
        baseline_experiment("folder", BaselineRequests(prompt="Q", requests=0), "baseline")
    with pytest.raises(BadInput, match="--header goes with a URL"):
        model_or_target(Target(url="folder", model=None, headers=("a: b",)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_has_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"]).stdout
    assert f"dyno {command}" in shown.partition("Example")[2]


def test_every_load_is_shown_and_json_is_alone_on_standard_output(url: str, tmp_path: Path) -> None:
    flags = [
        "load",
        "--url",
        url.removesuffix("/v1"),
        "--model",
        "m",
        "--prompt",
        "Hi",
        "--warmup",
        "100ms",
    ]
    done = dyno(
        *flags,
        "--concurrency",
        "2",
        "--concurrency",
        "4",
        "--requests",
        "20",
        "--blocks",
        "2",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "concurrency-2 *" in done.stdout and "concurrency-4" in done.stdout
    assert "the API is at" in done.stdout
    done = dyno(
        *flags,
        "--rate",
        "50",
        "--duration",
        "1s",
        "--slo",
        "latency_p50=10s",
        "--json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    stored = tmp_path / printed["run"]
    assert printed["summary"] == json.loads((stored / "summary.json").read_text())
    assert printed["verdict"] == json.loads((stored / "verdict.json").read_text())
    assert "load all variants" in done.stderr


def test_two_loads_can_be_compared(url: str, tmp_path: Path) -> None:
    for name in ("before", "after"):
        flags = [
            "--url",
            url,
            "--model",
            "m",
            "--prompt",
            "Hi",
            "--concurrency",
            "4",
            "--requests",
            "100",
            "--warmup",
            "100ms",
        ]
        done = dyno("load", *flags, "--name", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "is no news" not in done.stdout  # two pairs of blocks tell nothing of the noise
    compared = dyno("compare", "runs/before", "runs/after", "--json", cwd=tmp_path)
    changes = {change["metric"]: change for change in json.loads(compared.stdout)["changes"]}
    assert changes["latency_p50"]["difference"]["absolute"]["low"] is not None, compared.stdout


def test_a_password_is_in_no_file_of_a_run(url: str, tmp_path: Path) -> None:
    secret = "correcthorse"
    address = url.replace("http://", f"http://bob:{secret}@")
    flags = [
        "--header",
        f"x-key: {secret}",
        "--concurrency",
        "1",
        "--requests",
        "2",
        "--warmup",
        "0s",
    ]
    done = dyno("load", "--url", address, "--model", "m", "--prompt", "Hi", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert [file for file in files if secret.encode() in file.read_bytes()] == []
    assert secret not in done.stdout + done.stderr
    [variant] = load_experiment(tmp_path / "runs/load/experiment.yaml").variants
    assert variant.url is not None and variant.url.startswith(
        "http://${DYNO_URL_USER}:${DYNO_URL_PASSWORD}@127.0.0.1"
    )
