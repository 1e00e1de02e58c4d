"""The comparison of two runs in words: Markdown for a pull request, JUnit XML for a CI."""

from __future__ import annotations

from xml.etree import ElementTree as Tree

from results.report.format import ABSENT, change, points, quantity
from results.summary import RunChange, RunComparison


def markdown(comparison: RunComparison) -> str:
    """What got worse or better first, then every number, then what differs in the environments."""
    news = [c for c in comparison.changes if c.outcome in ("worse", "better")]
    lines = [f"## {comparison.before} -> {comparison.after}", ""]
    lines += [f"- **{c.outcome}**: {_place(c)}: {c.sentence}" for c in news] or ["No difference larger than the noise."]
    lines += ["", "| | before | after | change | noise | |", "|---|---|---|---|---|---|"]
    lines += [_row(c) for c in comparison.changes]
    for title, texts in (("Environment", comparison.environment), ("Notes", comparison.notes)):
        lines += ["", f"**{title}**", "", *(f"- {text}" for text in texts)] if texts else []
    return "\n".join(lines) + "\n"


def junit(comparison: RunComparison) -> str:
    """A case a number: worse is a failure, unsettled is skipped."""
    suite = Tree.Element("testsuite", name=f"{comparison.before} -> {comparison.after}")
    for found in comparison.changes:
        case = Tree.SubElement(suite, "testcase", classname=_place(found), name=found.label)
        if found.outcome == "worse":
            Tree.SubElement(case, "failure", message=found.sentence, type="worse")
        elif found.outcome == "unsettled":
            Tree.SubElement(case, "skipped", message=found.sentence)
    suite.set("tests", str(len(comparison.changes)))
    for name, tag in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
    Tree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Tree.tostring(suite, encoding="unicode") + "\n"


def _place(found: RunChange) -> str:
    return f"{found.variant}, {found.stage}" if found.stage else found.variant


def _row(found: RunChange) -> str:
    before, after = (quantity(side.value, found.unit) for side in (found.before, found.after))
    absolute, relative = found.difference.absolute.value, found.difference.relative.value
    size = ABSENT
    if found.unit == "share" and absolute is not None:
        size = points(absolute)
    elif relative is not None:
        size = change(relative)
    noise = ABSENT if found.noise is None else change(found.noise).lstrip("+")
    return f"| {_place(found)}: {found.label} | {before} | {after} | {size} | {noise} | {found.outcome} |"
