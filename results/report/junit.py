"""The verdict as JUnit XML: a suite a variant, a case for each objective and measurement."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as Tree

from foundation.printable import visible
from results.summary import Summary, VariantVerdict, Verdicts

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COUNTED = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error"}


def junit(summary: Summary, verdicts: Verdicts) -> str:
    """The XML. A failing objective is a failure, an open or invalid one an error.

    Nothing that is not known is green.
    """
    stages = {variant.variant: variant.stages for variant in summary.variants}
    root = Tree.Element("testsuites", name=clean(verdicts.name))
    for verdict in verdicts.variants:
        suite = Tree.SubElement(root, "testsuite", name=clean(verdict.variant))
        place = clean(f"{verdicts.name}.{verdict.variant}")
        for objective in verdict.objectives:
            name = clean(f"{objective.label} {objective.limit_text}")
            case = Tree.SubElement(suite, "testcase", classname=place, name=name)
            if objective.outcome == "fails":
                failure = Tree.SubElement(
                    case, "failure", message=clean(objective.sentence), type=objective.kind
                )
                failure.text = clean("\n".join(verdict.reasons))
            elif objective.outcome == "unsettled":
                Tree.SubElement(case, "error", message=clean(objective.sentence), type="unsettled")
        if not _is_only_compared_with(verdict, verdicts):
            _add_verdict(
                Tree.SubElement(suite, "testcase", classname=place, name="verdict"), verdict
            )
        for stage in stages.get(verdict.variant, ()):
            case = Tree.SubElement(
                suite, "testcase", classname=place, name=clean(f"measurement {stage.stage}")
            )
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
    """A baseline without objectives, since every objective of the others is against it."""
    return (
        verdict.is_baseline
        and not verdict.objectives
        and any(other.objectives for other in verdicts.variants)
    )


def _add_verdict(case: Tree.Element, verdict: VariantVerdict) -> None:
    """An INVALID measurement may have objectives that hold: the verdict is red all the same."""
    if verdict.decision == "SHIP":
        return
    tag = "failure" if verdict.decision == "DON'T SHIP" else "error"
    element = Tree.SubElement(case, tag, message=clean(verdict.headline), type=verdict.decision)
    element.text = clean("\n".join(verdict.reasons))


def count(element: Tree.Element, suites: Iterable[Tree.Element]) -> None:
    """Writes the numbers of cases, failures and errors of the suites on an element."""
    within = list(suites)
    for name, path in _COUNTED.items():
        element.set(name, str(sum(len(suite.findall(path)) for suite in within)))


def clean(text: str) -> str:
    """Without what steers a terminal and without the characters that XML can't hold."""
    return _NOT_XML.sub("", visible(text))
