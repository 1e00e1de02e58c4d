"""junit.xml of a whole run."""

from __future__ import annotations

from xml.etree import ElementTree as Tree

import msgspec

from results.report.junit import junit
from results.summary import Validity
from tests.results.html_page import Made


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
