"""`dyno search` from end to end against an emulator, and the mistakes that it names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dyno.experiment.schema import Experiment
from dyno.pipeline.capacity import searched_rates
from dyno.pipeline.decide import run_inputs
from dyno.pipeline.probe_block import counts_from_ns
from dyno.pipeline.search import probe_stage, probe_words
from dyno.pipeline.search_plan import check_search
from foundation.errors import BadInput
from foundation.run.journal import Journal, read_journal
from foundation.run.layout import RunDirectory, is_search_stage, search_stage
from loadgen.config import WorkloadConfig
from loadgen.schedule.arrivals import schedule
from results.capacity.search.journal import read_probe
from results.capacity.search.limits import share_limits, unloaded_over
from results.capacity.search.search import NextProbe
from results.config import Slo
from results.metrics import label_of
from tests.dyno.conftest import emulator
from tests.dyno.test_cli import dyno
from tests.results.test_search import LIMIT
from tests.results.test_search import probe as a_probe

VARIANT = {"name": "url", "url": "http://127.0.0.1:9/v1", "model": "m"}
SECTIONS = {
    "name": "searched",
    "model": "m",
    "data": {"prompt": "Hi"},
    "variants": [VARIANT],
    "baseline": "url",
    "slo": {"latency_p50": "100ms"},
}


def experiment(search: object = None, **others: object) -> Experiment:
    stages: list[object] = [{"rate": 2, "requests": 2, "warmup": "0s"}]
    stages += [{"search": search}] if search else []
    return Experiment.model_validate(
        {**SECTIONS, "workload": {"stages": stages, "warmup": "0s"}, **others}
    )


def test_a_search_among_the_stages_is_no_stage_and_reads_back() -> None:
    read = experiment({"max_rate": "50/s"})
    assert [stage.label for stage in read.workload.stages] == ["rate-2"]
    assert read.workload.search is not None
    assert read.workload.search.max_rate == 50
    assert Experiment.model_validate(json.loads(read.model_dump_json())).workload == read.workload


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([{"search": {"max_rate": "5/s"}}], "write a load beside it"),
        ([{"rate": 1, "requests": 1}, *2 * [{"search": {"max_rate": "5/s"}}]], "one search"),
        (
            [{"rate": 1, "requests": 1}, {"search": {"max_rate": "5/s"}, "rate": 2}],
            "rate does not go with search",
        ),
        ([{"rate": 1, "requests": 1}, {"search": {"max_rate": "0/s"}}], "above zero"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(stages: list[object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        WorkloadConfig.model_validate({"stages": stages})


@pytest.mark.parametrize(
    ("slo", "words"),
    [
        ({}, "write what each request must keep"),
        ({"requests_per_s": "5/s"}, "no limit that a lower rate keeps"),
        ({"latency_mean": "1s"}, "a mean is no share"),
        ({"itl_p95": "1s"}, "over tokens"),
        ({"latency_p95": "1.1x"}, "relative to the baseline"),
        ({"error_rate": "0%"}, "no number of requests shows 0%"),
    ],
)
def test_an_objective_that_a_search_can_not_decide_is_refused(
    slo: dict[str, str], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        check_search(experiment({"max_rate": "50/s"}, slo=slo))


def test_a_search_too_short_to_show_that_a_limit_holds_is_refused() -> None:
    with pytest.raises(BadInput, match=r"max_time: .* write 800s or more"):
        check_search(experiment({"max_rate": "5/s", "max_time": "1m"}, slo={"ttft_p95": "20s"}))


def test_a_floor_under_a_rate_is_left_out_and_noted() -> None:
    limits, notes = share_limits(Slo.model_validate({"ttft_p99": "1s", "goodput": "5/s"}))
    assert [(limit.metric, round(limit.allowed, 9), limit.limit) for limit in limits] == [
        ("ttft_p99", 0.01, 1000.0)
    ]
    assert "goodput" in notes[0]


def test_a_probe_arrives_as_the_experiment_says_and_warms_up() -> None:
    stages = [{"rate": 2, "requests": 2, "arrivals": "gamma", "burstiness": 0.5}]
    read = experiment(workload={"stages": stages, "warmup": "1s"})
    stage = probe_stage(read, 3, NextProbe(4.0, 200, "search"))
    assert (stage.label, stage.rate, stage.requests, stage.warmup) == ("search-03", 4.0, 200, 5.0)
    assert (stage.arrivals, stage.burstiness) == ("gamma", 0.5)


def test_a_fast_servers_probe_is_not_ended_by_its_warm_up() -> None:
    """A GPU answers in 50 ms: the backlog of the warm-up grew, and the window showed nothing."""
    stage = probe_stage(experiment({"max_rate": 1200}), 1, NextProbe(1200.0, 3600, "search"))
    stage = stage.model_copy(update={"warmup": 1.0})
    timetable = schedule(stage, 0, 1, 1.0)
    assert counts_from_ns(timetable, 0.05) == 1e9
    assert counts_from_ns(timetable, 0.5) == 4e9


def test_only_a_probes_stage_is_kept_from_the_verdicts() -> None:
    assert is_search_stage(search_stage(1)) and is_search_stage(search_stage(123))
    for name in ("search-", "search-1", "search-peak", "search-001", "research-01", "rate-2"):
        assert not is_search_stage(name)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A search up to a rate that holds: two short probes, since a p50 needs few requests."""
    folder = tmp_path_factory.mktemp("searched")
    with emulator(["--ttft", "20ms", "--itl", "0ms", "--tokens", "1"]) as url:
        search = {"max_rate": "200/s", "max_time": "5s"}
        read = experiment(search, variants=[{**VARIANT, "url": url}])
        (folder / "experiment.yaml").write_text(read.as_yaml())
        done = dyno("search", "experiment.yaml", cwd=folder)
    assert "holds at least" in done.stdout, done.stdout + done.stderr
    return RunDirectory(folder / "runs" / "searched")


def test_the_record_has_every_probe_and_its_counts_are_the_journals(
    searched: RunDirectory,
) -> None:
    record = json.loads(searched.search.read_text())
    [variant] = record["variants"]
    assert variant["fails"] is None
    assert variant["holds"] <= 200
    for probe in variant["probes"]:
        journal = read_journal(searched.journal("url", probe["stage"], 1))
        assert isinstance(journal, Journal)
        assert journal.header.offered_rate == probe["rate"]
        requests = journal.requests
        counted = requests.scheduled_ns >= journal.header.window_start_ns
        over = (requests.latency[counted] > 100).sum()
        share = probe["shares"]["latency_p50"]
        assert (share["over"], share["requests"]) == (over, counted.sum())


def test_a_search_that_is_whole_measures_nothing_again(searched: RunDirectory) -> None:
    # The emulator is gone, so that a request would fail.
    before = searched.search.read_bytes()
    again = dyno("search", str(searched.path), cwd=searched.path)
    assert "holds at least" in again.stdout, again.stdout + again.stderr
    assert searched.search.read_bytes() == before


def test_a_probe_that_was_stopped_without_a_reason_does_not_count(
    searched: RunDirectory,
) -> None:
    limits, _ = share_limits(Slo.model_validate({"latency_p50": "100ms"}))
    journal = read_journal(searched.journal("url", "search-01", 1))
    assert isinstance(journal, Journal)
    assert read_probe(journal, limits) is not None
    few = journal.requests.take(
        np.arange(15)
    )  # no queue is seen in so few, however busy it is here
    assert read_probe(Journal(journal.header, few, None), limits) is None


def test_an_slo_under_the_unloaded_latency_ends_the_search_at_once(tmp_path: Path) -> None:
    with emulator(["--ttft", "20ms", "--itl", "0ms", "--tokens", "1"]) as url:
        arguments = ["--url", url, "--model", "m", "--prompt", "Hi", "--slo", "ttft_p95=5ms"]
        done = dyno("search", *arguments, "--max-rate", "5", cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "no rate holds: one request at a time has a ttft of" in done.stdout
    [variant] = json.loads((tmp_path / "runs/search/search.json").read_text())["variants"]
    assert (variant["holds"], variant["probes"], variant["resolved"]) == (None, [], True)


def test_lone_requests_show_nothing_where_one_kept_the_limit_or_failed(
    searched: RunDirectory,
) -> None:
    journal = read_journal(searched.journal("url", "search-01", 1))
    assert isinstance(journal, Journal)
    requests = journal.requests.take(np.arange(10))
    over, _ = share_limits(Slo.model_validate({"latency_p50": "1ms"}))
    assert unloaded_over(over, requests) is not None
    assert unloaded_over(over, requests.take(np.arange(7))) is None  # by chance, 7 of 7 over a p50
    just, _ = share_limits(Slo.model_validate({"latency_p50": f"{requests.latency.min()}ms"}))
    assert unloaded_over(just, requests) is None
    shares, _ = share_limits(Slo.model_validate({"error_rate": "1%"}))
    assert unloaded_over(shares, requests) is None


def test_a_plan_takes_the_interval_only_with_the_same_limits(searched: RunDirectory) -> None:
    run = experiment({"max_rate": "200/s"})
    rates = searched_rates(searched, run_inputs(searched, run))
    record = json.loads(searched.search.read_text())
    assert (rates["url"].low, rates["url"].high) == (record["variants"][0]["holds"], None)
    other = experiment({"max_rate": "200/s"}, slo={"latency_p50": "90ms"})
    assert searched_rates(searched, run_inputs(searched, other)) == {}


def test_a_probe_says_how_many_requests_were_over_and_what_is_known_so_far() -> None:
    first, second = a_probe(10, 60), a_probe(5, 0)
    assert probe_words(first, [first], [LIMIT]) == (
        f"10 requests/s: 60 of {first.requests} requests over {label_of(LIMIT.metric)} "
        f"{LIMIT.text}; so far 10 fails"
    )
    assert probe_words(second, [first, second], [LIMIT]).endswith("; so far 5 holds and 10 fails")
    few = a_probe(7, 1, 10)
    assert probe_words(few, [few], [LIMIT]).endswith("so far no rate is shown to hold or to fail")
