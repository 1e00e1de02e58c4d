"""The verdict as JUnit XML: a suite a variant, a case an objective, so that any CI shows what holds."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Tree

from results.summary import Verdicts

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(verdicts: Verdicts) -> str:
    """An objective that fails is a failure, one that is unsettled is skipped. Both carry the verdict's own sentence."""
    root = Tree.Element("testsuites", name=_clean(verdicts.name))
    for verdict in verdicts.variants:
        suite = Tree.SubElement(root, "testsuite", name=_clean(verdict.variant))
        for objective in verdict.objectives:
            place = {
                "classname": _clean(f"{verdicts.name}.{verdict.variant}"),
                "name": _clean(f"{objective.label} {objective.limit_text}"),
            }
            case = Tree.SubElement(suite, "testcase", place)
            if objective.outcome == "fails":
                failure = Tree.SubElement(case, "failure", message=_clean(objective.sentence), type=objective.kind)
                failure.text = _clean("\n".join(verdict.reasons))
            elif objective.outcome == "unsettled":
                Tree.SubElement(case, "skipped", message=_clean(objective.sentence))
        _count(suite, [suite])
    _count(root, list(root))
    Tree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Tree.tostring(root, encoding="unicode") + "\n"


def _count(element: Tree.Element, suites: list[Tree.Element]) -> None:
    for name, path in (("tests", "testcase"), ("failures", "testcase/failure"), ("skipped", "testcase/skipped")):
        element.set(name, str(sum(len(suite.findall(path)) for suite in suites)))


def _clean(text: str) -> str:
    """Without the characters that XML can't hold."""
    return _NOT_XML.sub("", text)
