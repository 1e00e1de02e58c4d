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
from tests.dyno.conftest import BEHAVIOUR, emulator
from tests.dyno.test_cli import dyno

EXPERIMENT = """\
name: two
model: m
data: {{prompt: "Say hello"}}
variants: [{{name: base, url: [{urls}], model: m}}]
baseline: base
workload: {{stages: [{{rate: 100, requests: 40, warmup: 50ms}}], blocks: 1}}
slo: {{latency_p50: 10s}}
"""


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    with emulator(BEHAVIOUR) as first, emulator(BEHAVIOUR) as second:
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
        schema_version=1, name="two", slo={"latency_p50": "10s"}, max_rate=100.0, confidence=0.95,
        notes=[], variants=[each],
    )  # fmt: skip
    folder.search.write_bytes(msgspec.json.encode(record))
    try:
        experiment = load_experiment(folder.experiment)
        rate = searched_rates(folder, run_inputs(folder, experiment))["base"]
        assert (rate.low, rate.high) == (20, 25)
    finally:
        folder.search.unlink()
