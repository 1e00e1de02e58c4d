"""report.html, report.md and junit.xml of a whole run."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import msgspec
import pytest

from foundation.run.records import Prompt, VariantRecord
from results.analysis import analyse
from results.capacity.plan.capacity_plan import CapacityPlan
from results.capacity.plan.plan import plan_capacity
from results.config import BudgetConfig, PlanConfig, QualityConfig, Slo
from results.decision.objective_words import writer
from results.decision.verdict import judge
from results.inputs import RunInputs
from results.report import write
from results.report.cards import cards
from results.report.evidence import gather
from results.report.junit import junit
from results.report.page import markdown_text
from results.report.page_figures import figures
from results.report.samples import choose
from results.report.servers import Servers
from results.summary import Estimate, Objective, Summary, Validity, Verdicts
from tests.results.drawn_run import BENCH, BLOCKS, REQUESTS, STAGE
from tests.results.report_run import PROVENANCE, make_run, measured_of

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The parts of a page: elements with attributes, ids, text, and whether tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.shown = ""
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.shown += data

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


Made = tuple[Path, Summary, Verdicts, CapacityPlan]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    run = tmp_path_factory.mktemp("run")
    summary, verdicts, plan = make_run(run)
    (run / "experiment.yaml").write_text("name: news-topics\nbaseline: base\n")
    write(run, summary, verdicts, plan, PROVENANCE, measured_of(run, summary))
    return run, summary, verdicts, plan


@pytest.fixture(scope="module")
def html(made: Made) -> str:
    return (made[0] / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_merits_of_the_recommended_variant_stand_at_the_top(made: Made, html: str) -> None:
    assert made[2].recommended not in (None, made[1].baseline)
    merits = html.partition('<dl class="figures-of-merit">')[2].partition("</dl>")[0]
    assert merits.count("<dt>") >= 3
    assert "<dt>Quality</dt>" in merits and "Latency p95" in merits and "Latency p50" not in merits


def test_it_asks_the_network_for_nothing(html: str, page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert "url(" not in html and "@import" not in html
    assert not re.search(
        r"\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", "".join(page.scripts)
    )
    policy = next(
        a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")


def test_only_its_own_script_may_run(page: Page) -> None:
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert len(page.scripts) == 1
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]


def test_the_verdict_comes_first_then_the_rest_in_order(page: Page) -> None:
    sections = [a["id"] for tag, a in page.elements if tag == "section"]
    assert sections == [
        "verdict", "reasons", "comparison", "latency", "tradeoff", "tokens", "time", "why",
        "timeline", "probes", "training", "answers", "capacity", "validity", "definitions",
        "provenance",
    ]  # fmt: skip
    assert (
        page.shown.index("Ship int8")
        < page.shown.index("Comparison")
        < page.shown.index("Definitions")
    )


def test_headings_nest_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert len(page.ids()) == len(set(page.ids()))
    assert {a["href"][1:] for tag, a in page.elements if tag == "a"} <= set(page.ids())
    assert all(a.get("aria-label") for tag, a in page.elements if tag == "svg")


def test_every_variant_has_its_decision_in_words(made: Made, page: Page) -> None:
    for verdict in made[2].variants:
        assert page.shown.count(verdict.decision) >= 2  # at a glance, and in its card
    assert {a["class"] for _, a in page.elements if a.get("class", "").startswith("badge")} == {
        "badge ship", "badge dont", "badge unknown"
    }  # fmt: skip


def test_advice_carries_the_lines_to_paste(page: Page) -> None:
    assert "variants:\n  - {name: int8, merge: finetune, quantize: w8a8-int8}" in page.shown


def test_it_follows_the_scheme_of_the_reader_and_prints(html: str) -> None:
    assert "prefers-color-scheme: dark" in html and "@media print" in html


def test_it_is_small(html: str) -> None:
    assert len(html) < 400_000


def test_the_same_journals_give_the_same_bytes(made: Made, tmp_path: Path) -> None:
    run, summary, verdicts, plan = made
    names = ("report.html", "report.md", "junit.xml")
    copy = tmp_path / "elsewhere"
    shutil.copytree(run, copy)
    for name in names:
        (copy / name).unlink()
    journal = sorted(copy.glob("load/*/*/block-01.jsonl"))[0]
    journal.touch()
    # What the CLI does: the summary read back from its file.
    again = msgspec.json.decode(msgspec.json.encode(summary), type=Summary)
    told = msgspec.json.decode(msgspec.json.encode(verdicts), type=Verdicts)
    write(copy, again, told, plan, PROVENANCE, measured_of(copy, again))
    for name in names:
        assert (copy / name).read_bytes() == (run / name).read_bytes(), name


def test_what_users_wrote_is_text_everywhere(made: Made, tmp_path: Path) -> None:
    run, summary, verdicts, plan = made
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "load" / "tuned").rename(copy / "load" / "evil")
    prompts = [
        msgspec.json.decode(line, type=Prompt)
        for line in (copy / "prompts.jsonl").read_bytes().splitlines()
    ]
    wild = [
        msgspec.structs.replace(
            p, messages={"short": [{"role": "user", "content": EVIL}]}, reference=EVIL
        )
        for p in prompts
    ]
    (copy / "prompts.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, wild)) + b"\n")
    for journal in copy.glob("load/evil/*/*.jsonl"):
        journal.write_bytes(
            re.sub(rb'"text":"[^"]*"', b'"text":' + msgspec.json.encode(EVIL), journal.read_bytes())
        )
    (copy / "experiment.yaml").write_text(f"name: {EVIL}\n")
    (copy / "adapters" / "finetune").rename(copy / "adapters" / "<b>bold<")

    def spoil(told: Any) -> Any:
        data = msgspec.json.encode(told).decode()
        # A variant's name is also the name of its folder, so it stays; all other words turn evil.
        data = data.replace('"tuned"', '"evil"').replace(
            "base + LoRA adapter", msgspec.json.encode(EVIL).decode()[1:-1]
        )
        for words in (
            "Every objective is shown",
            "Quantize to 8 bits",
            "The machine has 2 cores",
            "Is a gain",
            "Ship int8",
            "p99 is not shown",
        ):
            data = data.replace(words, msgspec.json.encode(EVIL).decode()[1:-1])
        data = data.replace("variants:\\n", msgspec.json.encode("```\n" + EVIL).decode()[1:-1])
        return msgspec.json.decode(data, type=type(told))

    provenance = {"hardware": {EVIL: [EVIL, {"deep": EVIL}]}, EVIL: EVIL}
    spoiled = spoil(summary)
    measured = measured_of(copy, spoiled)
    html_file, md_file, junit_file = write(
        copy, spoiled, spoil(verdicts), plan, provenance, measured
    )
    page = Page(html_file.read_text())
    assert page.shown.count(EVIL) >= 12
    assert len(page.scripts) == 1 and not [a for tag, a in page.elements if tag == "img"]
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    Tree.parse(junit_file)
    lines = md_file.read_text().splitlines()
    fenced = {
        i
        for i, line in enumerate(lines)
        if line.strip().startswith("<script>") or line.strip().startswith("<img")
    }
    outside = [line for i, line in enumerate(lines) if i not in fenced and "<script>" in line]
    assert outside == []


def test_a_script_in_a_variants_name_is_text(tmp_path: Path) -> None:
    summary, verdicts, plan = make_run(tmp_path)
    name = "a<script>b"

    def renamed(told: Any) -> Any:
        return msgspec.json.decode(
            msgspec.json.encode(told).decode().replace('"merged"', f'"{name}"'), type=type(told)
        )

    (tmp_path / "load" / "merged").rename(tmp_path / "load" / name)
    told = renamed(summary)
    html_file, _, _ = write(
        tmp_path, told, renamed(verdicts), renamed(plan), {}, measured_of(tmp_path, told)
    )
    page = Page(html_file.read_text())
    assert name in page.shown and len(page.scripts) == 1


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


def test_markdown_begins_with_the_verdict_table(made: Made) -> None:
    text = (made[0] / "report.md").read_text()
    assert (
        text.index("| Variant | Decision") < text.index("## Comparison") < text.index("## Validity")
    )
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    for table in tables:
        assert (
            len({len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}) == 1
        ), table
    assert "**SHIP**" in tables[0] and "**DON'T SHIP**" in tables[0]


@pytest.mark.parametrize(
    "text", ["a|b", "<b>", "`code`", "line\nbreak", "@team", "[x](http://y)", "# no", "*a*", "&lt;"]
)
def test_markdown_text_stays_text(text: str) -> None:
    safe = markdown_text(text)
    assert (
        "\n" not in safe
        and "<" not in safe
        and not re.search(r"(?<!\\)[|`*\[\]#]", safe)
        and "@t" not in safe
    )


def test_junit_has_a_case_for_every_objective_one_for_the_verdict_and_one_for_each_measurement(
    made: Made,
) -> None:
    run, summary, verdicts, _ = made
    stages = {
        v.variant: ["holds"] * len(v.stages) for v in summary.variants
    }  # none of them is INVALID
    root = Tree.parse(run / "junit.xml").getroot()
    tags = {"SHIP": "holds", "DON'T SHIP": "fails", "INCONCLUSIVE": "unsettled"}
    for suite, verdict in zip(root.iter("testsuite"), verdicts.variants, strict=True):
        outcomes = [
            "fails"
            if case.find("failure") is not None
            else "unsettled"
            if case.find("error") is not None
            else "holds"
            for case in suite.iter("testcase")
        ]
        objectives = [objective.outcome for objective in verdict.objectives]
        assert outcomes == [*objectives, tags[verdict.decision], *stages[verdict.variant]]
        assert suite.get("failures") == str(outcomes.count("fails")) and suite.get("errors") == str(
            outcomes.count("unsettled")
        )
    assert root.get("tests") == str(
        sum(len(v.objectives) + 1 + len(stages[v.variant]) for v in verdicts.variants)
    )


def test_a_run_with_next_to_nothing_still_has_a_report(tmp_path: Path) -> None:
    summary = Summary(
        schema_version=1,
        name="empty",
        baseline="base",
        metrics={},
        variants=[],
        notes=["nothing was measured"],
    )
    bare = make_bare(summary)
    html_file, md_file, junit_file = write(tmp_path, bare, Verdicts(
        schema_version=1, name="empty", baseline="base", recommended=None,
        headline="No variant may ship yet.", variants=[]
    ), None, {}, [])  # fmt: skip
    page = Page(html_file.read_text())
    assert "No variant may ship yet." in page.shown and "nothing was measured" in page.shown
    assert (
        md_file.read_text().startswith("# empty")
        and Tree.parse(junit_file).getroot().get("tests") == "0"
    )


def make_bare(summary: Summary) -> Summary:
    from results.summary import VariantSummary

    variant = VariantSummary(
        variant="base", what="base", prompt_style="plain", judged_stage="main", metrics={},
        differences={}, probes={}, probe_differences={}, stages=[],
    )  # fmt: skip
    return msgspec.structs.replace(summary, variants=[variant])


def test_it_shows_what_the_analysis_makes_of_journals(tmp_path: Path) -> None:
    make_run(tmp_path)
    inputs = RunInputs(
        name="news-topics",
        baseline="base",
        judged_stage=STAGE,
        variants=[
            VariantRecord(name=m.name, what=m.what, prompt_style=m.style, size_bytes=int(m.size))
            for m in BENCH
        ],
        slo=Slo.model_validate({"latency_p95": "600ms", "ttft_p95": "1.1x", "error_rate": "5%"}),
        quality=QualityConfig.model_validate(
            {"scorer": "exact_match", "min": 0.8, "max_drop": 0.01}
        ),
        budget=BudgetConfig.model_validate(
            {
                "price": {"accelerator_hour": "$0.10"},
                "per_month": "$500",
                "requests_per_month": "5M",
                "max_increase": "20%",
            }
        ),
        plan=PlanConfig.model_validate({"peak_rate": "20/s"}),
        run=tmp_path,
    )
    summary = analyse(inputs)
    verdicts = judge(summary, inputs)
    plan, measured = plan_capacity(summary, inputs), measured_of(tmp_path, summary)
    assert all("goodput" in point.metrics for v in plan.variants for point in v.points)
    html_file, _, _ = write(tmp_path, summary, verdicts, plan, PROVENANCE, measured)
    page = Page(html_file.read_text())
    assert verdicts.headline in page.shown
    for words in (
        "Quality",
        "Latency p95",
        "TTFT p95",
        "TPOT p50",
        "Throughput",
        "Input tokens mean",
        "Cost per 1,000 requests",
        "Model size",
    ):
        assert words in page.shown
    assert "quality against the baseline" in page.shown and "≥ −1.0 points" in page.shown
    assert "nan" not in re.sub(r"[a-z]+nan|nan[a-z]+", "", page.shown.lower())


def test_junit_has_an_error_for_a_measurement_that_is_not_valid_and_for_no_other(
    made: Made,
) -> None:
    _, summary, verdicts, _ = made
    variant = summary.variants[0]
    spoiled = msgspec.structs.replace(
        variant.stages[0], validity=Validity(level="INVALID", reasons=["sent late"])
    )
    variants = [msgspec.structs.replace(variant, stages=[spoiled]), *summary.variants[1:]]
    root = Tree.fromstring(junit(msgspec.structs.replace(summary, variants=variants), verdicts))
    measurements = [
        case for case in root.iter("testcase") if (case.get("name") or "").startswith("measurement")
    ]
    errors = [case.find("error") for case in measurements]
    assert len(errors) > 1
    assert [error is not None for error in errors] == [True] + [False] * (len(errors) - 1)
    assert errors[0] is not None
    assert errors[0].get("message") == "sent late"


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
