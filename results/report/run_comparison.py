"""The comparison of two runs: Markdown for a pull request, JUnit XML for a CI."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as Tree

from foundation.format import ABSENT, between, change, points, quantity
from results.comparison.stored_runs.conclusion import place
from results.report.junit import clean, count
from results.report.page import markdown_text
from results.summary import RunChange, RunComparison, RunWaterfall

TitledLines = tuple[str, Sequence[str]]


def sections(comparison: RunComparison) -> list[TitledLines]:
    """The lines beside the numbers, by title; the terminal and the Markdown show the same."""
    titled: list[TitledLines] = [
        ("Asked differently", comparison.asked),
        ("Validity", comparison.validity),
        ("Missing", comparison.missing),
        ("Settings", comparison.settings),
        ("Environment", comparison.environment),
        ("Notes", comparison.notes),
        ("Where the time went", [_why(each) for each in comparison.waterfalls]),
    ]
    return [(title, lines) for title, lines in titled if lines]


def _why(of: RunWaterfall) -> str:
    lines = [of.difference.sentence, *of.difference.notes]
    return f"{of.variant}, {of.stage}: {'. '.join(lines)}"


def news(comparison: RunComparison) -> list[RunChange]:
    """The changes that a reader must see first: worse, then unsettled, then better ones."""
    order = ("worse", "unsettled", "better")
    return sorted(
        (c for c in comparison.changes if c.outcome in order), key=lambda c: order.index(c.outcome)
    )


def cells(metric: RunChange) -> tuple[str, str, str, str]:
    """A metric before and after, its change, and the changes that the data allow."""
    before, after = (quantity(side.value, metric.unit) for side in (metric.before, metric.after))
    is_share = metric.unit == "share"
    write = points if is_share else change
    value = (metric.difference.absolute if is_share else metric.difference.relative).value
    size = ABSENT if value is None else write(value)
    bounds = metric.bounds
    allowed = ABSENT if bounds is None else between(write(bounds.low), write(bounds.high))
    return before, after, size, allowed


def markdown(comparison: RunComparison) -> str:
    """The comparison as Markdown.

    The conclusion comes first, then what is worse, unsettled or better. Every number and what else
    differs follow.
    """
    lines = [
        f"## {markdown_text(comparison.before)} -> {markdown_text(comparison.after)}",
        "",
        f"**{markdown_text(comparison.headline)}**",
        "",
    ]
    lines += [
        f"- **{c.outcome}**: {markdown_text(f'{place(c)}: {c.sentence}')}" for c in news(comparison)
    ]
    if comparison.changes:
        lines += [
            "",
            "| | before | after | change | the data allow | |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_row(c) for c in comparison.changes]
    for title, texts in sections(comparison):
        lines += ["", f"**{title}**", "", *(f"- {markdown_text(text)}" for text in texts)]
    return "\n".join(lines) + "\n"


def junit(comparison: RunComparison) -> str:
    """The comparison as JUnit XML: one case per number, and one for the conclusion.

    Worse is a failure; whatever is not known is an error.
    """
    suite = Tree.Element("testsuite", name=clean(f"{comparison.before} -> {comparison.after}"))
    for metric in comparison.changes:
        name, message = clean(metric.label), clean(metric.sentence)
        case = Tree.SubElement(suite, "testcase", classname=clean(place(metric)), name=name)
        if metric.outcome == "worse":
            Tree.SubElement(case, "failure", message=message, type="worse")
        elif metric.outcome in ("unsettled", "not compared"):
            Tree.SubElement(case, "error", message=message, type=metric.outcome)
    case = Tree.SubElement(suite, "testcase", classname="comparison", name="conclusion")
    if comparison.conclusion != "nothing worse":
        tag = "failure" if comparison.conclusion == "worse" else "error"
        message = clean(comparison.headline)
        problem = Tree.SubElement(case, tag, message=message, type=comparison.conclusion)
        problem.text = clean("\n".join(line for _, lines in sections(comparison) for line in lines))
    count(suite, [suite])
    Tree.indent(suite)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n' + Tree.tostring(suite, encoding="unicode") + "\n"
    )


def _row(metric: RunChange) -> str:
    name = markdown_text(f"{place(metric)}: {metric.label}")
    return f"| {name} | {' | '.join(cells(metric))} | {metric.outcome} |"
