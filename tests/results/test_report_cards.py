"""Cards, samples and evidence of a report."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import msgspec

from foundation.run.records import Prompt
from results.decision.objective_words import writer
from results.report.cards import cards
from results.report.evidence import gather
from results.report.page_figures import figures
from results.report.samples import choose
from results.report.servers import Servers
from results.summary import Estimate, Objective
from tests.results.drawn_run import BLOCKS, REQUESTS
from tests.results.html_page import Made
from tests.results.report_run import measured_of


def test_the_journals_are_shown_whole(made: Made) -> None:
    run, summary, _, _ = made
    evidence = gather(measured_of(run, summary), summary)
    assert next(iter(evidence)) == summary.baseline
    for variant in summary.variants:
        found = evidence[variant.variant]
        assert found.latency.size + found.failed == BLOCKS * REQUESTS
        assert found.lane.due.size + found.lane.failed.size == BLOCKS * REQUESTS
        assert [block.number for block in found.lane.blocks] == list(range(1, BLOCKS + 1))
    spans = sorted((b.start, b.end) for found in evidence.values() for b in found.lane.blocks)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))  # one variant at a time


def prompt(id: str, reference: str | None = "yes", group: str = "eval") -> Prompt:
    return Prompt(
        id=id,
        set=group,
        messages={"plain": [{"role": "user", "content": f"question {id}"}]},
        reference=reference,
    )


def test_samples_are_those_where_variants_disagree_most() -> None:
    prompts = {
        p.id: p
        for p in (prompt("a"), prompt("b"), prompt("c"), prompt("d", group="general"), prompt("e"))
    }
    answers = {
        "base": {"a": "yes", "b": "no", "c": "no", "d": "x", "e": "1"},
        "tuned": {"a": " YES ", "b": "yes", "c": "maybe", "d": "y", "e": "2"},
        "int8": {"a": "yes", "b": "yes", "c": "perhaps", "d": "z"},
    }
    chosen = choose(prompts, answers, count=4)
    assert [sample.prompt for sample in chosen] == [
        "c",
        "b",
        "a",
        "e",
    ]  # probes aside; the one not all answered last
    together = chosen[2].answers
    assert (
        len(together) == 1
        and together[0].variants == ["base", "tuned", "int8"]
        and together[0].matches
    )
    assert [(a.variants, a.text, a.matches) for a in chosen[1].answers] == [
        (["base"], "no", False),
        (["tuned", "int8"], "yes", True),
    ]
    assert (["int8"], None) in [(a.variants, a.text) for a in chosen[3].answers]


def test_a_rise_in_cost_is_written_as_a_change_and_a_cost_as_money() -> None:
    def objective(metric: str, unit: str) -> Objective:
        value = Estimate(value=0.2, low=0.1, high=0.3, n=9)
        return Objective(
            kind="budget", metric=metric, label=metric, unit=unit, value=value, limit=0.5,
            limit_text="", margin=0.3, outcome="holds", sentence="",
        )  # fmt: skip

    assert writer(objective("cost_increase", "share"))(0.2, 0) == "+20 %"
    assert writer(objective("cost_per_month", "$"))(0.2, 0) == "$0.20"


def test_the_distributions_of_latency_and_of_ttft_are_drawn_from_their_own_values(
    made: Made,
) -> None:
    run, summary, verdicts, _ = made
    slots = {variant.variant: slot for slot, variant in enumerate(summary.variants)}
    evidence = gather(measured_of(run, summary), summary)
    slower = {
        name: dataclasses.replace(each, latency=each.latency**1.1)
        for name, each in evidence.items()
    }
    before, after = (
        figures(summary, verdicts, each, Servers(), slots) for each in (evidence, slower)
    )
    assert {name for name in before if before[name] != after[name]} == {
        "latency_rows",
        "latency_curve",
    }


def test_a_card_says_nothing_twice(made: Made) -> None:
    _, summary, verdicts, _ = made
    by_name = {verdict.variant: verdict for verdict in verdicts.variants}
    for card in cards(summary, verdicts):
        assert not [
            reason for reason in card["reasons"] if reason.lower() in card["headline"].lower()
        ]
        said = " ".join([card["headline"], *card["reasons"]]).lower()
        open_ = [o.sentence for o in by_name[card["variant"]].objectives if o.outcome != "holds"]
        assert all(sentence.lower() in said for sentence in open_)


def test_a_bound_on_one_side_is_written_as_such(made: Made) -> None:
    _, summary, verdicts, _ = made
    verdict = next(v for v in verdicts.variants if v.objectives)
    objective = verdict.objectives[0]

    def bounds(low: float | None, high: float | None) -> str:
        value = Estimate(value=0.3, low=low, high=high, n=9)
        one = msgspec.structs.replace(
            verdict, objectives=[msgspec.structs.replace(objective, value=value, unit="ms")]
        )
        [card] = cards(summary, msgspec.structs.replace(verdicts, variants=[one]))
        return str(card["objectives"][0]["bounds"])

    assert bounds(None, 0.4).startswith("at most")
    assert bounds(0.2, None).startswith("at least")
    assert " to " in bounds(0.2, 0.4)
    assert bounds(None, None) == ""
