"""What is written fits the schemas that are kept in the repository, and those are of this code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest

from results.analysis import analyse
from results.capacity.plan.plan import plan_capacity
from results.decision.verdict import judge
from results.schema import DOCUMENTS, FOLDER, schema_text
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_change_of_shape_is_seen(document: str) -> None:
    assert (FOLDER / f"{document}.json").read_text() == schema_text(document), (
        "if the change is meant: python -m results.schema"
    )


def schema(document: str) -> dict[str, object]:
    return json.loads((FOLDER / f"{document}.json").read_text())


def test_outputs_fit_their_schemas(tmp_path: Path) -> None:
    write_prompts(tmp_path, {"q": "yes"})
    for variant in ("base", "tuned"):
        for block in (1, 2):
            write_journal(
                tmp_path,
                variant,
                block,
                [request(i, "q", i * 100, 50, 20, text="yes") for i in range(90)],
            )
    run_inputs = inputs(
        tmp_path,
        ["base", "tuned"],
        Goals(
            {"latency_p50": "100ms", "latency_p95": "1.1x"},
            {"min": 0.5},
            {"price": {"accelerator_hour": 1}, "per_month": 100, "requests_per_month": 1000},
            {"peak_rate": 50},
        ),
    )
    summary = analyse(run_inputs)
    for document, output in (
        ("summary", summary),
        ("verdict", judge(summary, run_inputs)),
        ("plan", plan_capacity(summary, run_inputs)),
    ):
        written = json.loads(msgspec.json.encode(output))
        jsonschema.Draft202012Validator(schema(document)).validate(written)
        assert msgspec.json.decode(msgspec.json.encode(output), type=DOCUMENTS[document]) == output
    header, *records, end = (tmp_path / "load/base/main/block-01.jsonl").read_text().splitlines()
    jsonschema.validate(json.loads(header), schema("journal-header"))
    jsonschema.validate(json.loads(records[0]), schema("journal-record"))
    jsonschema.validate(json.loads(end), schema("journal-end"))


def test_the_room_is_cheap_to_enter() -> None:
    code = (
        "import results, sys; print([m for m in ('numpy', 'scipy', 'pyarrow', 'pydantic', "
        "'plotly') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert out.stdout.strip() == "[]"
