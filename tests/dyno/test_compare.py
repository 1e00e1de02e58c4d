"""The exit code and words of `dyno compare --gate`, for pairs of runs whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from msgspec import structs

from foundation.run.records import Prompt
from results.report.page import markdown_text
from results.schema import schema_of
from tests.dyno.stored_runs import StoredRun, dyno, questions

BASE = StoredRun()
LATER = StoredRun(seed=2)
WORSE, UNSETTLED, NOTHING = 1, 2, 3
TOKEN_PRICE = "budget: {{price: {{input_per_million: $1, output_per_million: ${}}}}}"
HOUR_PRICE = "budget: {{price: {{accelerator_hour: ${}}}}}"
SCORED = "quality: {scorer: exact_match, min: 50%}"


def reworded(change: Mapping[str, Any], *, number: int = 7) -> list[Prompt]:
    """The questions, one of them otherwise."""
    return [structs.replace(p, **change) if i == number else p for i, p in enumerate(questions())]


def says_no(*numbers: int, of: int = 60) -> Any:
    """Wrong answers to these prompts, whenever they are asked."""
    return lambda i: "no" if i % of in numbers else "yes"


OTHER_WORDS = {"messages": {"plain": [{"role": "user", "content": "Is it?"}]}}
SWAPPED = [structs.replace(p, id=f"other-{i}") for i, p in enumerate(questions())]
RANDOM_WORDS = [structs.replace(p, messages=OTHER_WORDS["messages"]) for p in questions()]
SYNTHETIC = ", dataset: {{synthetic: {{input_tokens: {}, output_tokens: 11}}}}"
TRACE = replace(BASE, pace="trace: {file: /a/day.jsonl}", load="")
MADE_UP = [
    Prompt(f"s{i}", "eval", {"plain": [{"role": "user", "content": "w " * i}]}, input_tokens=i)
    for i in range(10, 70)
]
SHAREGPT = ", dataset: {sharegpt: x.json}"
CASES: dict[str, tuple[StoredRun, StoredRun, int, str]] = {
    # What is measured.
    "the same again": (BASE, LATER, 0, "Nothing is worse"),
    "total outage": (BASE, replace(LATER, fails=lambda i: True), WORSE,
        "error rate was 0 % and is 100 %: worse"),
    "an outage in both": (replace(BASE, fails=lambda i: True), replace(LATER, fails=lambda i: True),
        UNSETTLED, "latency p50"),
    "5 % new failures": (BASE, replace(LATER, fails=lambda i: i % 20 == 0), WORSE,
        "error rate was 0 % and is 5.0 %: worse"),
    "2 new failures of 400": (BASE, replace(LATER, fails=lambda i: i in (7, 300)), UNSETTLED,
        "measure more requests"),
    "failures in one block only": (BASE, replace(LATER, fails=lambda i: i < 30), UNSETTLED,
        "was 0 % and is 7.5 %: unsettled"),
    "failures that went": (replace(BASE, fails=lambda i: i % 10 == 0), LATER, 0,
        "90.0 % and is 100 %: not worse by more than"),
    "tenfold latency": (BASE, replace(LATER, latency=2000.0), WORSE,
        "latency p50 was 199 ms and is 2.00 s: worse, +903 %"),
    "8 % slower": (BASE, replace(LATER, latency=216.0), WORSE, "latency p50"),
    "2 % slower, within the margin": (BASE, replace(LATER, latency=204.0), 0,
        "no difference beyond 5 %"),
    "faster": (BASE, replace(LATER, latency=150.0), 0, "better: a, main: latency p50"),
    "tenfold latency in one block": (
        replace(BASE, blocks=1, requests=400),
        replace(LATER, blocks=1, requests=400, latency=2000.0), UNSETTLED,
        "measure at least two blocks in each run",
    ),
    "too scattered to tell": (replace(BASE, spread=1.0), replace(LATER, spread=1.0), UNSETTLED,
        "measure more blocks"),
    "one block against eight": (BASE, replace(LATER, blocks=1, requests=400), UNSETTLED,
        "not equally long"),
    "twice the tokens": (BASE, replace(LATER, tokens=22), WORSE,
        "output tokens mean was 11.0 tokens and is 22.0 tokens: worse"),
    "tokens no longer counted": (BASE, replace(LATER, tokens=None), UNSETTLED,
        "output tokens mean was 11.0 tokens and is not"),
    "an slo's own metric": (
        replace(BASE, sections="slo: {ttft_mean: 1s}"),
        replace(LATER, delay=lambda i: 3000.0 * (i % 33 == 0)), WORSE,
        "TTFT mean was",
    ),
    "an slo that can't be had": (replace(BASE, sections="slo: {latency_p99: 1s}"), LATER, UNSETTLED,
        "needs at least 1,000"),
    # Quality and cost.
    "a fifth of the answers wrong": (
        replace(BASE, sections=SCORED), replace(LATER, sections=SCORED, says=says_no(*range(12))),
        WORSE, "quality was 100 % and is 80.0 %: worse, −20.0 points",
    ),
    "3 of 60 answers wrong": (BASE, replace(LATER, says=says_no(1, 2, 3)), UNSETTLED,
        "measure more prompts"),
    "threefold token price": (
        replace(BASE, sections=TOKEN_PRICE.format(2)),
        replace(LATER, sections=TOKEN_PRICE.format(6)), WORSE,
        "the price changes it by +142 %, what was used by 0.0 %",
    ),
    "threefold hourly price": (
        replace(BASE, sections=HOUR_PRICE.format(1)), replace(LATER, sections=HOUR_PRICE.format(3)),
        WORSE, "cost per request was",
    ),
    "a price only now": (BASE, replace(LATER, sections=HOUR_PRICE.format(3)), UNSETTLED,
        "names no budget"),
    # What there is to compare.
    "no stage in common": (BASE, replace(LATER, stages={"other": 10.0}), NOTHING,
        "only before has stage main of a"),
    "no variant in common": (BASE, replace(LATER, variants=("b", "c")), NOTHING,
        "only before has variant a"),
    "one variant each, of two names": (BASE, replace(LATER, variants=("b",), latency=2000.0), WORSE,
        "a / b, main: latency p50"),
    "a variant that is gone": (replace(BASE, variants=("a", "b")), LATER, UNSETTLED,
        "only before has variant b"),
    "a variant more": (BASE, replace(LATER, variants=("a", "b")), 0, "only after has variant b"),
    "a stage that is gone": (replace(BASE, stages={"main": 10.0, "high": 20.0}), LATER, UNSETTLED,
        "only before has stage high"),
    "INVALID now": (BASE, replace(LATER, slip=30.0), UNSETTLED,
        "the measurement of after is INVALID"),
    "INVALID before": (replace(BASE, slip=30.0), LATER, UNSETTLED,
        "the measurement of before is INVALID"),
    "SUSPECT": (BASE, replace(LATER, stall=200.0), 0,
        "after: a, main: SUSPECT: the load generator was away"),
    # What was asked.
    "one prompt reworded": (BASE, replace(LATER, prompts=reworded(OTHER_WORDS)), NOTHING,
        "1 of 60 prompts ask something else"),
    "one prompt less": (BASE, replace(LATER, prompts=questions()[:-1]), NOTHING,
        "1 of 60 prompts are only in before"),
    "the same prompts by other names": (BASE, replace(LATER, prompts=SWAPPED), 0,
        "Nothing is worse"),
    "one reference changed": (BASE, replace(LATER, prompts=reworded({"reference": "no"})),
        UNSETTLED, "1 of 60 prompts have"),
    "sharegpt, more of it": (
        replace(BASE, workload=SHAREGPT), replace(LATER, workload=SHAREGPT, prompts=questions(70)),
        0, "Nothing is worse",
    ),
    "another sharegpt": (
        replace(BASE, workload=SHAREGPT), replace(LATER, workload=SHAREGPT,
            prompts=reworded(OTHER_WORDS)), NOTHING, "1 of 60",
    ),
    "synthetic words by another seed": (
        replace(BASE, workload=SYNTHETIC.format(64), prompts=MADE_UP),
        replace(LATER, workload=SYNTHETIC.format(64) + ", seed: 5", prompts=MADE_UP[::2]), 0,
        "workload.seed: 0 -> 5",
    ),
    "synthetic of other lengths": (
        replace(BASE, workload=SYNTHETIC.format(64), prompts=MADE_UP),
        replace(LATER, workload=SYNTHETIC.format(64),
            prompts=[structs.replace(p, input_tokens=9) for p in MADE_UP]), NOTHING,
        "60 of 60 prompts ask something else",
    ),
    "no prompts": (replace(BASE, prompts=questions()[:1]), replace(LATER, prompts=questions()[1:2]),
        NOTHING, "prompts"),
    "sampling": (BASE, replace(LATER, workload=", sampling: {max_tokens: 5}"), NOTHING,
        "workload.sampling.max_tokens: 256 -> 5"),
    "temperature": (BASE, replace(LATER, workload=", sampling: {temperature: 1}"), NOTHING,
        "temperature: 0.0 -> 1.0"),
    "api": (BASE, replace(LATER, workload=", api: completions"), NOTHING,
        "workload.api: chat -> completions"),
    "api in the journals only": (BASE, replace(LATER, head={"api": "completions"}), NOTHING,
        "api: chat -> completions"),
    "deadlines": (BASE, replace(LATER, workload=", deadlines: {total: 5s}"), NOTHING,
        "workload.deadlines.total"),
    "another rate": (BASE, replace(LATER, stages={"main": 20.0}), NOTHING,
        "workload.stages.main.rate: 10.0 -> 20.0"),
    "arrivals": (BASE, replace(LATER, load=", arrivals: poisson"), NOTHING,
        "arrivals: constant -> poisson"),
    "another field in the body": (BASE, replace(LATER, variant=", request: {extra: {top_k: 1}}"),
        NOTHING, "request.extra.top_k"),
    "another header": (BASE, replace(LATER, variant=", request: {headers: {x-team: b}}"), 0,
        "variants.a.request.headers.x-team"),
    "a field that the server refused": (
        BASE, replace(LATER, environment={"requests": {"a": ["temperature is left out"]}}), NOTHING,
        "temperature is left out",
    ),
    "another way to the server": (
        BASE,
        replace(LATER, environment={"requests": {"a": ["asked through the proxy http://p:1"]}}),
        0, "Nothing is worse",
    ),
    "a trace in another folder": (TRACE, replace(TRACE, seed=2, pace="trace: {file: /b/day.jsonl}"),
        0, "Nothing is worse"),
    "another trace of the same name": (TRACE, replace(TRACE, seed=2, gap=0.5), NOTHING,
        "requests arrive at other times"),
    "another closed loop": (
        replace(BASE, pace="concurrency: 4", load=""),
        replace(LATER, pace="concurrency: 8", load=""), NOTHING,
        "workload.stages.main.concurrency: 4 -> 8",
    ),
    "other block lengths": (BASE, replace(LATER, requests=60, latency=400.0), UNSETTLED,
        "requests: 50 -> 60"),
    "synthetic lengths": (
        replace(BASE, workload=SYNTHETIC.format(64)),
        replace(LATER, workload=SYNTHETIC.format(512)), NOTHING, "input_tokens",
    ),
    "synthetic words": (
        replace(BASE, workload=SYNTHETIC.format(64)),
        replace(LATER, workload=SYNTHETIC.format(64), prompts=RANDOM_WORDS,
            fails=lambda i: i % 20 == 0),
        WORSE, "error rate was 0 % and is 5.0 %: worse",
    ),
    "scorer": (BASE, replace(LATER, sections="quality: {scorer: contains}"), UNSETTLED,
        "scorer: exact_match -> contains"),
    # What else may differ.
    "another slo": (BASE, replace(LATER, sections="slo: {latency_p95: 2s}"), 0,
        "slo.latency_p95: none -> 2s"),
    "more blocks": (BASE, replace(LATER, blocks=12), 0, "workload.blocks: 8 -> 12"),
    "another machine": (BASE, replace(LATER, environment={"hardware": {"cpu": "B"}}), 0,
        "hardware"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_gate_opens_only_for_what_is_known_to_be_no_worse(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, code, says = CASES[case]
    runs = [str(before.write(tmp_path / "before")), str(after.write(tmp_path / "after"))]
    junit = tmp_path / "junit.xml"
    got, text, error = dyno(
        capsys, monkeypatch, "compare", *runs, "--gate", "--json", "--junit", str(junit)
    )
    assert got == code, text + error
    comparison = json.loads(text)
    jsonschema.validate(comparison, schema_of("comparison"))
    sentences = [each["sentence"] for each in comparison["changes"]]
    beside = [
        line
        for key in ("asked", "validity", "missing", "settings", "environment", "notes")
        for line in comparison[key]
    ]
    assert any(says in line for line in (comparison["headline"], *sentences, *beside)), text
    # CI sees what the gate says.
    cases = ElementTree.parse(junit).getroot()
    assert (cases.find("testcase/failure") is not None) == (code == WORSE)
    assert (cases.find("testcase/error") is not None) or code in (0, WORSE)
    assert not cases.findall("testcase/skipped")


def test_the_table_and_the_markdown_say_what_the_json_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = replace(
        LATER,
        fails=lambda i: i % 20 == 0,
        sections="slo: {latency_p95: 2s}",
        stall=200.0,
        variants=("a", "b"),
    )
    runs = [str(BASE.write(tmp_path / "before")), str(failing.write(tmp_path / "after"))]
    _, printed, _ = dyno(capsys, monkeypatch, "compare", *runs, "--json")
    comparison = json.loads(printed)
    monkeypatch.setattr("dyno.commands.compare.UNSETTLED_SHOWN", 0)
    code, table, _ = dyno(capsys, monkeypatch, "compare", *runs)
    assert code == 0  # without --gate
    _, text, _ = dyno(capsys, monkeypatch, "compare", *runs, "--markdown")
    said = [c["sentence"] for c in comparison["changes"] if c["outcome"] in ("worse", "better")]
    unsettled = [c["sentence"] for c in comparison["changes"] if c["outcome"] == "unsettled"]
    assert said and unsettled
    assert not any(line in table for line in unsettled)
    assert f"{len(unsettled)} more unsettled; --markdown says why of each" in table
    assert all(markdown_text(line) in text for line in unsettled)
    kinds = ("validity", "settings", "notes")
    assert all(comparison[kind] for kind in kinds)
    for line in (
        comparison["headline"],
        *said,
        *(line for kind in kinds for line in comparison[kind]),
    ):
        assert line in table
        assert markdown_text(line) in text
    for change in comparison["changes"]:
        assert f"| a{', main' * bool(change['stage'])}: {change['label']} |" in text
        assert text.count(f" | {change['outcome']} |") == sum(
            c["outcome"] == change["outcome"] for c in comparison["changes"]
        )


def test_a_wider_margin_settles_and_a_narrower_one_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [
        str(BASE.write(tmp_path / "before")),
        str(replace(LATER, latency=216.0).write(tmp_path / "after")),
    ]
    codes = {
        m: dyno(capsys, monkeypatch, "compare", *runs, "--gate", "--margin", m)[0]
        for m in ("15%", "5%", "0.1%")
    }
    assert codes == {"15%": 0, "5%": WORSE, "0.1%": WORSE}
    code, _, error = dyno(capsys, monkeypatch, "compare", *runs, "--margin", "0%")
    assert code == NOTHING
    assert error.startswith("error: --margin: write the largest change")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("experiment.yaml", "not a run directory"),
        ("variants.json", "variants.json: can't be read"),
        ("environment.json", "environment.json: can't be read"),
        ("load", "no journals under load/"),
    ],
)
def test_what_can_not_be_read_is_bad_input(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    says: str,
) -> None:
    made = replace(BASE, blocks=1)
    runs = [made.write(tmp_path / "before"), made.write(tmp_path / "after")]
    (runs[1] / broken).rename(tmp_path / "gone")
    code, _, error = dyno(capsys, monkeypatch, "compare", *map(str, runs), "--gate")
    assert code == NOTHING
    assert error.startswith("error: ")
    assert says in error
    assert error.count("\n") == 1


def test_side_by_side_names_what_is_not_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("good", "late", "stalled")
    for name, made in zip(
        names, (BASE, replace(BASE, slip=30.0), replace(BASE, stall=200.0)), strict=True
    ):
        made.write(tmp_path / name)
        assert dyno(capsys, monkeypatch, "report", str(tmp_path / name))[0] == 0
    code, table, _ = dyno(capsys, monkeypatch, "compare", *(str(tmp_path / name) for name in names))
    assert code == 0
    heading = table.split("┡")[0]
    assert heading.count("INVALID") == heading.count("SUSPECT") == 1
    assert "late: a, main: INVALID: the load generator sent late" in table


def test_side_by_side_leaves_a_place_where_a_run_lacks_the_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {
        "unpriced": BASE,
        "priced": replace(BASE, sections=TOKEN_PRICE.format(2)),
        "other": BASE,
    }
    for name, run in runs.items():
        run.write(tmp_path / name)
        assert dyno(capsys, monkeypatch, "report", str(tmp_path / name))[0] == 0
    code, table, _ = dyno(capsys, monkeypatch, "compare", *(str(tmp_path / name) for name in runs))
    assert code == 0
    (cost,) = [line for line in table.splitlines() if "Cost per 1,000 requests" in line]
    cells = [cell.strip() for cell in cost.strip("│ ").split("│")][1:]
    variants = len(cells) // 3
    assert cells[:variants] == cells[-variants:] == ["-"] * variants
    assert all("$" in cell for cell in cells[variants:-variants])
    assert "— " not in table.replace("— │", "")
