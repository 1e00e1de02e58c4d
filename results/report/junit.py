"""The verdicts as JUnit XML, so that any CI shows what holds.

A variant is a suite. Its cases are its objectives, its verdict and its measurements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as Tree

from foundation.printable import visible
from results.summary import Objective, Summary, VariantVerdict, Verdicts

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COUNTED = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error"}


def junit(summary: Summary, verdicts: Verdicts) -> str:
    """The XML of the verdicts.

    What fails is a failure. What is unsettled or not measured validly is an error, so nothing
    unknown is green.
    """
    stages = {variant.variant: variant.stages for variant in summary.variants}
    root = Tree.Element("testsuites", name=clean(verdicts.name))
    for verdict in verdicts.variants:
        suite = Tree.SubElement(root, "testsuite", name=clean(verdict.variant))
        place = clean(f"{verdicts.name}.{verdict.variant}")
        for objective in verdict.objectives:
            name = clean(f"{objective.label} {objective.limit_text}")
            case = Tree.SubElement(suite, "testcase", classname=place, name=name)
            _add_objective(case, objective, verdict)
        if not _is_only_compared_with(verdict, verdicts):
            case = Tree.SubElement(suite, "testcase", classname=place, name="verdict")
            _add_verdict(case, verdict)
        for stage in stages.get(verdict.variant, ()):
            name = clean(f"measurement {stage.stage}")
            case = Tree.SubElement(suite, "testcase", classname=place, name=name)
            if stage.validity.level == "INVALID":
                message = clean("; ".join(stage.validity.reasons))
                Tree.SubElement(case, "error", message=message, type="INVALID")
        count(suite, [suite])
    count(root, list(root))
    Tree.indent(root)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n' + Tree.tostring(root, encoding="unicode") + "\n"
    )


def _is_only_compared_with(verdict: VariantVerdict, verdicts: Verdicts) -> bool:
    """Whether this is a baseline without objectives, which only the others are compared with."""
    return (
        verdict.is_baseline
        and not verdict.objectives
        and any(other.objectives for other in verdicts.variants)
    )


def _add_objective(case: Tree.Element, objective: Objective, verdict: VariantVerdict) -> None:
    message = clean(objective.sentence)
    if objective.outcome == "fails":
        failure = Tree.SubElement(case, "failure", message=message, type=objective.kind)
        failure.text = clean("\n".join(verdict.reasons))
    elif objective.outcome == "unsettled":
        Tree.SubElement(case, "error", message=message, type="unsettled")


def _add_verdict(case: Tree.Element, verdict: VariantVerdict) -> None:
    """Adds a failure or an error unless the verdict is SHIP.

    The objectives of an INVALID measurement may all hold; its verdict is red all the same.
    """
    if verdict.decision == "SHIP":
        return
    tag = "failure" if verdict.decision == "DON'T SHIP" else "error"
    problem = Tree.SubElement(case, tag, message=clean(verdict.headline), type=verdict.decision)
    problem.text = clean("\n".join(verdict.reasons))


def count(element: Tree.Element, suites: Iterable[Tree.Element]) -> None:
    """Sets an element's numbers of cases, failures and errors, summed over its suites."""
    within = list(suites)
    for name, path in _COUNTED.items():
        element.set(name, str(sum(len(suite.findall(path)) for suite in within)))


def clean(text: str) -> str:
    """The text without terminal control characters and without what XML can't hold."""
    return _NOT_XML.sub("", visible(text))
