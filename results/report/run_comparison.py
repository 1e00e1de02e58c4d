"""The comparison of two runs in words: Markdown for a pull request, JUnit XML for a CI."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as Tree

from foundation.format import ABSENT, between, change, points, quantity
from results.comparison.stored_runs.conclusion import place
from results.report.junit import clean, count
from results.report.page import markdown_text
from results.summary import RunChange, RunComparison

Section = tuple[str, Sequence[str]]


def sections(comparison: RunComparison) -> list[Section]:
    """What stands beside the numbers, by title; the terminal and the Markdown show the same."""
    sections_: list[Section] = [
        ("Asked differently", comparison.asked),
        ("Validity", comparison.validity),
        ("Missing", comparison.missing),
        ("Settings", comparison.settings),
        ("Environment", comparison.environment),
        ("Notes", comparison.notes),
    ]
    return [(title, lines) for title, lines in sections_ if lines]


def news(comparison: RunComparison) -> list[RunChange]:
    """What a reader must see first: what is worse, what is not settled, what is better."""
    order = ("worse", "unsettled", "better")
    return sorted(
        (c for c in comparison.changes if c.outcome in order), key=lambda c: order.index(c.outcome)
    )


def cells(row: RunChange) -> tuple[str, str, str, str]:
    """Before, after, the change, and what the data allow it to be."""
    before, after = (quantity(side.value, row.unit) for side in (row.before, row.after))
    absolute, relative = row.difference.absolute.value, row.difference.relative.value
    write = points if row.unit == "share" else change
    value = absolute if row.unit == "share" else relative
    size = ABSENT if value is None else write(value)
    bounds = row.bounds
    return (
        before,
        after,
        size,
        ABSENT if bounds is None else between(write(bounds.low), write(bounds.high)),
    )


def markdown(comparison: RunComparison) -> str:
    """The conclusion; what is worse, unsettled or better; every number; what else differs."""
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
    """A case a number, and one for the conclusion: worse is a failure, unknown an error."""
    suite = Tree.Element("testsuite", name=clean(f"{comparison.before} -> {comparison.after}"))
    for row in comparison.changes:
        case = Tree.SubElement(
            suite, "testcase", classname=clean(place(row)), name=clean(row.label)
        )
        if row.outcome == "worse":
            Tree.SubElement(case, "failure", message=clean(row.sentence), type="worse")
        elif row.outcome in ("unsettled", "not compared"):
            Tree.SubElement(case, "error", message=clean(row.sentence), type=row.outcome)
    case = Tree.SubElement(suite, "testcase", classname="comparison", name="conclusion")
    if comparison.conclusion != "nothing worse":
        tag = "failure" if comparison.conclusion == "worse" else "error"
        element = Tree.SubElement(
            case, tag, message=clean(comparison.headline), type=comparison.conclusion
        )
        element.text = clean("\n".join(line for _, lines in sections(comparison) for line in lines))
    count(suite, [suite])
    Tree.indent(suite)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n' + Tree.tostring(suite, encoding="unicode") + "\n"
    )


def _row(row: RunChange) -> str:
    name = markdown_text(f"{place(row)}: {row.label}")
    return f"| {name} | {' | '.join(cells(row))} | {row.outcome} |"
