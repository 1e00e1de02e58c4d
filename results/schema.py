"""Writes the JSON Schemas of the results into `results/schemas/`, so that a change is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from foundation.run.part import PartRecord
from foundation.run.records import JournalEnd, JournalHeader, Prompt, RequestRecord
from results.capacity.model.record import EngineModels
from results.capacity.plan.capacity_plan import CapacityPlan
from results.capacity.search.record import CapacitySearch
from results.decision.improvement.record import Improvement
from results.profile.record import Profile
from results.race import Race
from results.summary import RunComparison, Summary, Verdicts

FOLDER = Path(__file__).with_name("schemas")
DOCUMENTS: dict[str, type[msgspec.Struct]] = {
    "summary": Summary,
    "verdict": Verdicts,
    "plan": CapacityPlan,
    "search": CapacitySearch,
    "race": Race,
    "improve": Improvement,
    "comparison": RunComparison,
    "profile": Profile,
    "model": EngineModels,
    "journal-header": JournalHeader,
    "journal-record": RequestRecord,
    "journal-end": JournalEnd,
    "prompt": Prompt,
    "part": PartRecord,
}


def schema_of(document: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one kind of document, a key of `DOCUMENTS`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | msgspec.json.schema(
        DOCUMENTS[document]
    )


def schema_text(document: str) -> str:
    """As it stands in its file."""
    return msgspec.json.format(msgspec.json.encode(schema_of(document)), indent=2).decode() + "\n"


def write_schemas(folder: Path = FOLDER) -> None:
    """Writes the schema of every document into `folder`."""
    folder.mkdir(exist_ok=True)
    for document in DOCUMENTS:
        (folder / f"{document}.json").write_text(schema_text(document), encoding="utf-8")


if __name__ == "__main__":
    write_schemas()
