"""The sections of capacity in report.html and report.md."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as Tree

import msgspec
import numpy as np
import pytest

from results.capacity.plan.capacity_plan import CapacityPlan, VariantCapacity
from results.report.capacity.costs import cost_figure
from results.report.capacity.investments import investment_section
from results.report.capacity.section import capacity_section
from results.report.capacity.table import Fact, FactRow, facts
from results.report.capacity.words import capacity_words
from results.report.figures.svg import Axis
from results.report.page import html, markdown
from results.summary import Estimate, Summary, Verdicts
from tests.results.drawn_plan import BENCH, HEADROOM, PEAK, PRICE, SPARE, drawn_plan
from tests.results.html_page import Page
from tests.results.report_run import make_run, measured_of
from tests.results.test_report_page import EVIL, make_bare

SLOTS = {variant.name: slot for slot, variant in enumerate(BENCH)}
PLAN = drawn_plan()


def page_of(tmp_path: Path, plan: CapacityPlan | None) -> tuple[str, str]:
    summary = make_bare(
        Summary(schema_version=1, name="n", baseline="base", metrics={}, variants=[], notes=[])
    )
    verdicts = Verdicts(
        schema_version=1, name="n", baseline="base", recommended=None, headline="h", variants=[]
    )
    return html(tmp_path, summary, verdicts, plan, {}, []), markdown(summary, verdicts, plan)


def section_of(text: str, name: str) -> str:
    return text.partition(f'<section id="{name}"')[2].partition("</section>")[0]


def row_of(plan: CapacityPlan, label: str) -> FactRow:
    [row] = [row for row in facts(plan).rows if row.label == label]
    return row


def old_plan() -> CapacityPlan:
    """What version 0.1 knew: a rate and replicas, or a reason."""
    rows = [
        VariantCapacity(
            variant="int8", rate_per_replica=2.5, lower_bound=True, replicas=11,
            cost_per_month=803.0, sentence="Eleven replicas hold the peak.",
        ),
        VariantCapacity(
            variant="base", rate_per_replica=None, lower_bound=False, replicas=None,
            cost_per_month=None, sentence="No measured rate met the SLO.",
        ),
    ]  # fmt: skip
    return CapacityPlan(
        schema_version=1, name="n", peak_rate=20.0, headroom=0.2, spare=1, variants=rows
    )


def test_the_answer_comes_first_then_table_figures_what_is_not_known_and_the_audit(
    tmp_path: Path,
) -> None:
    text = section_of(page_of(tmp_path, PLAN)[0], "capacity")
    marks = (
        "int8 on ", "For a peak of 120 requests/s", "One replica holds", "One replica, by offered",
        "Cost a month by traffic", "Replicas of int8 over a day", "Quality, cost and latency",
        "Break-even points", "Estimates for hardware", "What if", "What is not known",
        "Planned beside measured", "measured: int8 at 8 requests/s", "not measured: int8",
    )  # fmt: skip
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "(2026-11-27T10:00:00Z)" in text


def test_the_page_holds_both_sections_and_is_well_formed(tmp_path: Path) -> None:
    text = page_of(tmp_path, PLAN)[0]
    page = Page(text)
    assert {"capacity", "investment"} <= set(page.ids())
    assert {a["href"][1:] for tag, a in page.elements if tag == "a"} <= set(page.ids())
    assert all(a.get("aria-label") for tag, a in page.elements if tag == "svg")
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert not re.search(r"\b(nan|inf)\b", section_of(text, "capacity"))


def test_a_plan_without_a_model_still_has_its_section_and_says_which_figures_are_absent(
    tmp_path: Path,
) -> None:
    text, markdown_text = page_of(tmp_path, old_plan())
    section = section_of(text, "capacity")
    assert "≥ 2.50" in section and "Eleven replicas hold the peak." in section
    for reason in (
        "No figure of latency by rate of int8, base: no model",
        "No figure of cost by traffic: no variant",
        "No figure of replicas over a day: the plan",
        "No figure of the Pareto front: fewer",
    ):
        assert reason in section
    assert "<svg" not in section and 'id="investment"' not in text
    assert "- base: No measured rate met the SLO." in markdown_text
    assert 'id="capacity"' not in page_of(tmp_path, None)[0]


def test_the_table_has_a_column_a_variant_and_a_note_where_a_value_lacks() -> None:
    table = facts(PLAN)
    assert table.variants == [variant.name for variant in BENCH]
    held = row_of(PLAN, "One replica holds").cells
    assert held[3].value == f"{BENCH[3].holds():.3g}" and " to " in held[3].under
    assert held[0] == Fact("—", note=1) and table.notes[0].startswith("an unloaded replica's")
    assert all(len(row.cells) == len(BENCH) for row in table.rows)
    assert table.remarks == ["Left out: Energy per request: no power was read"]
    assert [cell.value for cell in row_of(PLAN, "Beaten by").cells][1:3] == ["merged", "nobody"]


def test_an_estimate_for_other_hardware_says_its_factor_beside_its_rule() -> None:
    [row] = capacity_words(PLAN).scaled
    assert row[-1] == "x 1.4, estimate: memory bandwidth, 4.8 TB/s over 3.35 TB/s"


def test_the_replicas_are_what_to_rent_and_under_them_what_is_likely() -> None:
    cell = row_of(PLAN, "Replicas for the peak").cells[1]
    peak = PLAN.variants[1].peak
    assert peak is not None and cell.value == str(peak.replicas)
    assert cell.under == f"likely {peak.likely}, at least {peak.fewest}"


def test_a_probability_that_is_only_bounded_is_written_as_a_bound() -> None:
    peak = PLAN.variants[3].peak
    assert peak is not None
    bounded = msgspec.structs.replace(peak, miss=Estimate(value=None, low=0.0, high=0.05))
    variant = msgspec.structs.replace(PLAN.variants[3], peak=bounded)
    plan = msgspec.structs.replace(PLAN, variants=[variant])
    label = "Probability of missing the SLO"
    assert row_of(plan, label).cells == [Fact("≤ 5.0 %")]
    rare = msgspec.structs.replace(peak, miss=Estimate(value=3e-5))
    variant = msgspec.structs.replace(variant, peak=rare)
    assert (
        row_of(msgspec.structs.replace(plan, variants=[variant]), label).cells[0].value
        == "< 0.10 %"
    )


def test_the_cost_line_has_a_step_at_each_replica_and_nowhere_else() -> None:
    plan = msgspec.structs.replace(PLAN, variants=[PLAN.variants[3]], break_even=[], peak_rate=30.0)
    figure = Tree.fromstring(str(cost_figure(plan, SLOTS)))
    [line] = [e for e in figure.iter("path") if (e.get("class") or "").startswith("curve")]
    corners = [tuple(map(float, c.split())) for c in line.get("d", "")[1:].split("L")]
    held = PLAN.variants[3].rate.low
    assert held is not None
    used, month = held * (1 - HEADROOM), PRICE * 730
    most = (np.ceil(60 / used) + SPARE) * month
    x, y = Axis(0.0, 60 * 1.06, 70.0, 850.0), Axis(0.0, most * 1.06, 344.0, 34.0)
    assert corners[0] == pytest.approx((x(0.0), y((1 + SPARE) * month)), abs=0.06)
    assert corners[-1] == pytest.approx((x(60.0), y(most)), abs=0.06)
    jumps = [(a, b) for a, b in pairwise(corners) if b[1] < a[1]]
    places = [x(n * used) for n in range(1, int(60 / used) + 1)]
    assert [a[0] for a, _ in jumps] == pytest.approx(places, abs=0.06)
    assert [a[0] for a, _ in jumps] == [b[0] for _, b in jumps]


def test_only_break_even_points_at_which_no_third_variant_is_cheaper_have_a_marker() -> None:
    figure = Tree.fromstring(str(cost_figure(PLAN, SLOTS)))
    assert len([e for e in figure.iter() if "mark" in (e.get("class") or "").split()]) == 2
    again = [msgspec.structs.replace(PLAN.break_even[0], instead_of="nf4"), *PLAN.break_even]
    twice = str(cost_figure(msgspec.structs.replace(PLAN, break_even=again), SLOTS))
    assert twice.count("is the cheapest from") == str(cost_figure(PLAN, SLOTS)).count(
        "is the cheapest from"
    )
    dear = msgspec.structs.replace(PLAN.break_even[0], variant="tuned", instead_of="base")
    plan = msgspec.structs.replace(PLAN, break_even=[dear])
    figure = Tree.fromstring(str(cost_figure(plan, SLOTS)))
    assert not [e for e in figure.iter() if "mark" in (e.get("class") or "").split()]


def test_a_metered_price_rises_with_the_traffic() -> None:
    plan = msgspec.structs.replace(PLAN, price_hour=None, break_even=[])
    figure = Tree.fromstring(str(cost_figure(plan, SLOTS)))
    lines = [e for e in figure.iter("path") if (e.get("class") or "").startswith("curve")]
    assert len(lines) == 4 and all(line.get("d", "").count("L") == 1 for line in lines)
    assert cost_figure(msgspec.structs.replace(PLAN, peak_rate=0.0), SLOTS) is None


def test_a_thousand_replicas_are_drawn_in_some_hundred_steps() -> None:
    plan = msgspec.structs.replace(PLAN, peak_rate=100 * PEAK)
    assert len(str(cost_figure(plan, SLOTS))) < 60_000


def test_investing_is_answered_for_each_tuned_variant_the_no_included(tmp_path: Path) -> None:
    text = section_of(page_of(tmp_path, PLAN)[0], "investment")
    assert "yes: it saves more than it costs" in text and "no: it costs more a month" in text
    for fact in ("+28.1 points", "+$90", "$38", "Months to break even", "Saved so far"):
        assert fact in text
    unpriced = [msgspec.structs.replace(each, tuning_cost=None) for each in PLAN.investments]
    section = investment_section(msgspec.structs.replace(PLAN, investments=unpriced), SLOTS)
    assert section is not None and section.plot is None
    reason = "Left out: Tuning, once: what tuning cost is not known; write budget.tuning"
    assert section.absent and reason in section.table.remarks


def test_markdown_has_the_same_table_and_sentences(tmp_path: Path) -> None:
    text = page_of(tmp_path, PLAN)[1]
    table = text.partition("## Capacity")[2]
    assert "| One replica holds, requests/s |" in table
    rows = [line for line in table.partition("## When")[0].splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {len(BENCH) + 2}
    assert "## When to invest in fine-tuning" in text and "- tuned: no: it costs more" in text
    assert "- tuned, merged, int8, nf4: the KV cache was never full" in text


def test_what_users_wrote_is_text_in_every_part(tmp_path: Path) -> None:
    data = msgspec.json.encode(PLAN).decode()
    for words in ('"int8"', '"H200"', '"rate*10"', '"yes: it saves more than it costs"'):
        data = data.replace(words, msgspec.json.encode(EVIL).decode())
    plan = msgspec.json.decode(data, type=CapacityPlan)
    text, markdown_text = page_of(tmp_path, plan)
    page = Page(text)
    assert page.shown.count(EVIL) > 10 and len(page.scripts) == 1
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert "<script>" not in markdown_text


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    again = msgspec.json.decode(msgspec.json.encode(PLAN), type=CapacityPlan)
    assert page_of(tmp_path, PLAN) == page_of(tmp_path, again)
    assert capacity_words(PLAN) == capacity_words(again)


def test_a_run_with_other_variants_than_the_plan_keeps_its_figures() -> None:
    assert len(capacity_section(PLAN, {}).rates) == len(BENCH)


def test_one_measured_rate_and_no_model_is_no_curve_and_a_bound_is_no_value() -> None:
    variant = PLAN.variants[3]
    assert variant.merits is not None
    merits = msgspec.structs.replace(
        variant.merits,
        requests_per_accelerator=Estimate(value=None, low=4.5, reason="bounded"),
        cost_per_million=Estimate(value=None, high=6.11, reason="bounded"),
    )
    measured = msgspec.structs.replace(
        variant, curve=None, points=variant.points[:1], merits=merits
    )
    other = msgspec.structs.replace(measured, variant="merged")
    plan = msgspec.structs.replace(PLAN, variants=[measured, other], audits=[])
    section = capacity_section(plan, SLOTS)
    assert section.rates == [] and "The line is the model" not in section.rates_caption
    assert not any(row.label == "Requests/s an accelerator" for row in facts(plan).rows)
    assert measured.peak is not None
    pairs = msgspec.structs.replace(measured.peak, accelerators=2 * measured.peak.replicas)
    paired = msgspec.structs.replace(
        plan, variants=[msgspec.structs.replace(v, peak=pairs) for v in plan.variants]
    )
    assert row_of(paired, "Requests/s an accelerator").cells[0] == Fact("≥ 4.50")
    assert row_of(plan, "Cost per million requests").cells[0] == Fact("≤ $6.11")
    front = next(part.plot for part in section.drawn if part.title.startswith("Quality"))
    marks = [e for e in Tree.fromstring(str(front)).iter() if "mark" in (e.get("class") or "")]
    assert len(marks) == 4  # two variants, each at the deciding bound of its cost


def test_a_whole_run_with_a_whole_plan_is_one_small_page_in_order(tmp_path: Path) -> None:
    summary, verdicts, _ = make_run(tmp_path)
    measured = measured_of(tmp_path, summary)
    text = html(tmp_path, summary, verdicts, PLAN, {}, measured)
    assert len(text) < 400_000 and "url(" not in text
    ids = [a["id"] for tag, a in Page(text).elements if tag == "section"]
    assert ids[ids.index("answers") :] == [
        "answers", "capacity", "investment", "validity", "definitions", "provenance"
    ]  # fmt: skip
