"""Variants with replicas, from the experiment to the plan."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dyno.experiment.endpoints import endpoint_of
from dyno.experiment.loading import load_experiment
from dyno.experiment.variants import VariantConfig
from dyno.pipeline.capacity import searched_rates
from dyno.pipeline.decide import run_inputs
from foundation.errors import BadInput
from foundation.run.layout import RunDirectory
from results.capacity.search.record import CapacitySearch, VariantSearch
from tests.dyno.conftest import CALM, emulator
from tests.dyno.test_cli import dyno

EXPERIMENT = """\
name: two
model: m
data: {{prompt: "Say hello"}}
variants: [{{name: base, url: [{urls}], model: m}}]
baseline: base
workload:
  stages: [{{rate: 120, requests: 120, warmup: 100ms}}]
  blocks: 2
  transport: aiohttp
slo: {{latency_p95: 10s}}
budget: {{price: {{accelerator_hour: $3.60, accelerators: 2}}}}
plan: {{peak_rate: 500, headroom: 50%, spare: 2}}
"""


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    with emulator(CALM) as first, emulator(CALM) as second:
        yield [first, second]


@pytest.fixture(scope="module")
def run(urls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    (folder / "experiment.yaml").write_text(EXPERIMENT.format(urls=", ".join(urls)))
    done = dyno("run", "experiment.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs" / "two"


def test_each_of_two_addresses_gets_half_of_the_requests(run: Path, urls: list[str]) -> None:
    for journal in sorted(run.glob("load/base/*/block-*.jsonl")):
        header, *records = map(json.loads, journal.read_text().splitlines()[:-1])
        assert (header["replicas"], header["router"]) == (2, "round robin")
        shares = Counter(record["replica"] for record in records)
        assert abs(shares[1] - shares[2]) <= 1 and set(shares) == {1, 2}
    [variant] = json.loads((run / "variants.json").read_text())
    assert variant["what"] == f"m at {urls[0]}, {urls[1]}"


def test_the_plan_and_the_costs_are_of_two_servers(run: Path) -> None:
    """120/s of both is 60/s of one: 500 / (60 x 0.5) = 16.7, so 17, and 2 spare.

    The two cost $14.40 an hour, which is $0.004 a second, for 120 requests.
    """
    plan = json.loads((run / "plan.json").read_text())
    [capacity] = plan["variants"]
    assert (capacity["rate_per_replica"], capacity["replicas"]) == (60, 19)
    assert capacity["cost_per_month"] == pytest.approx(19 * 2 * 3.60 * 730)
    assert any("base was measured with 2 replicas (round robin)" in note for note in plan["notes"])
    [variant] = json.loads((run / "summary.json").read_text())["variants"]
    assert variant["stages"][0]["replicas"] == 2
    cost = variant["metrics"]["cost_per_request"]
    assert cost["value"] is None or cost["value"] == pytest.approx(0.004 / 120, rel=0.2)


def test_the_table_of_the_report_names_the_replicas(run: Path) -> None:
    assert "| Replicas | 2, round robin |" in (run / "report.md").read_text()


def test_a_stored_experiment_keeps_every_address(run: Path, urls: list[str]) -> None:
    stored = load_experiment(run / "experiment.yaml")
    assert stored.variants[0].urls == tuple(urls)
    assert stored.replicas_of(stored.variants[0]) == 2


def variant(**fields: Any) -> VariantConfig:
    return VariantConfig.model_validate({"name": "v", "model": "m", **fields})


def test_addresses_of_replicas_differ_in_host_and_path_only() -> None:
    endpoint = endpoint_of(variant(url=["http://a:1/v1", "http://b:2/x/v1"]), "chat")
    assert [each.base_url for each in endpoint.replicas] == ["http://a:1/v1", "http://b:2/x/v1"]
    assert endpoint.servers == 2 and endpoint.first.others == ()
    for urls, says in (
        (["http://a:1/v1", "http://a:1/v1/"], "an address stands there twice"),
        (["http://me:pw1@a/v1", "http://me:pw2@b/v1"], "differ in user, password"),
    ):
        with pytest.raises(BadInput, match=says):
            endpoint_of(variant(url=urls), "chat")
    with pytest.raises(ValueError, match="url: an empty list"):
        variant(url=[])


def test_a_search_of_two_replicas_shows_what_one_holds(run: Path) -> None:
    folder = RunDirectory(run)
    each = VariantSearch(
        variant="base", holds=40.0, fails=50.0, resolved=True, sentence="", prior_low=None,
        prior_high=None, identity="", probes=[], replicas=2,
    )  # fmt: skip
    record = CapacitySearch(
        schema_version=1, name="two", slo={"latency_p95": "10s"}, max_rate=100.0, confidence=0.95,
        notes=[], variants=[each],
    )  # fmt: skip
    folder.search.write_bytes(msgspec.json.encode(record))
    try:
        experiment = load_experiment(folder.experiment)
        rate = searched_rates(folder, run_inputs(folder, experiment))["base"]
        assert (rate.low, rate.high) == (20, 25)
    finally:
        folder.search.unlink()
