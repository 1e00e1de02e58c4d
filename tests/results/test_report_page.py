"""report.html, report.md and junit.xml of a whole run."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import msgspec
import pytest

from foundation.run.records import Prompt, VariantRecord
from results.analysis import analyse
from results.capacity.plan.plan import plan_capacity
from results.config import BudgetConfig, PlanConfig, QualityConfig, Slo
from results.decision.verdict import judge
from results.inputs import RunInputs
from results.report import write
from results.report.page import markdown_text
from results.summary import Summary, Verdicts
from tests.results.drawn_run import BENCH, STAGE
from tests.results.html_page import Made, Page
from tests.results.report_run import PROVENANCE, make_run, measured_of

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


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
