"""The pages name every key, option and file there is, and what they show as an example is taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest

from dyno.experiment.schema import Experiment
from dyno.experiment.yaml_lines import read_yaml
from foundation.run import layout
from foundation.run.records import JournalEnd, JournalHeader, RequestRecord
from foundation.section import Section
from loadgen.config import Stage
from results.config import SLO_METRICS
from tests.dyno import command_tables

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE = (DOCS / "experiment.md").read_text()
RUN_DIRECTORY = (DOCS / "run-directory.md").read_text()


def sections(annotation: Any) -> set[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return {annotation}.union(
            *(sections(field.annotation) for field in annotation.model_fields.values())
        )
    return set().union(*(sections(inner) for inner in getattr(annotation, "__args__", ())), set())


@pytest.mark.parametrize("section", sorted(sections(Experiment), key=lambda s: s.__name__))
def test_every_key_is_explained(section: type[Section]) -> None:
    missing = [key for key in section.model_fields if key not in REFERENCE]
    assert not missing


def choices(annotation: Any) -> set[str]:
    """The words that a field may be, wherever in its type they stand."""
    if get_origin(annotation) is Literal:
        return {word for word in get_args(annotation) if isinstance(word, str)}
    return {word for inner in get_args(annotation) for word in choices(inner)}


@pytest.mark.parametrize("section", sorted(sections(Experiment), key=lambda s: s.__name__))
def test_every_choice_is_explained(section: type[Section]) -> None:
    words = {w for field in section.model_fields.values() for w in choices(field.annotation)}
    assert not [w for w in words if not re.search(rf"(?<![\w-]){re.escape(w)}(?![\w-])", REFERENCE)]


def test_every_slo_metric_is_explained() -> None:
    words = set(re.findall(r"[\w.]+", REFERENCE))
    assert not [
        name for name in SLO_METRICS if name not in words and not set(name.rsplit("_", 1)) <= words
    ]


STAGES = REFERENCE.partition("A stage is one offered load")[2].partition("\n## ")[0]
EXAMPLES = [text for text in re.findall(r"`([^`]*\{[^`]*)`", STAGES) if not text.startswith('{"')]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_a_stage_is_taken(example: str) -> None:
    """A whole stage, or a key of one."""
    given = read_yaml(example)
    assert isinstance(given, dict)
    keys = given if example.startswith("{") else {"rate": 8, "duration": "60s", **given}
    Stage.model_validate(keys)


def test_the_options_of_every_command_are_those_of_the_code() -> None:
    """To update the page: python -m tests.dyno.command_tables"""
    written = command_tables.written_tables(command_tables.DOCS.read_text(encoding="utf-8"))
    assert written == command_tables.tables(), "run: python -m tests.dyno.command_tables"


def test_every_file_of_a_run_directory_is_listed() -> None:
    tree = RUN_DIRECTORY.split("```")[1]
    run = layout.RunDirectory(Path("NAME"))
    files = {
        path.name
        for name, each in vars(layout.RunDirectory).items()
        if isinstance(each, property) and isinstance(path := getattr(run, name), Path)
    }
    assert [name for name in files if not re.search(rf"(?<![\w-]){re.escape(name)}", tree)] == []


@pytest.mark.parametrize("record", [JournalHeader, RequestRecord, JournalEnd])
def test_every_field_of_a_journal_is_explained(record: type[msgspec.Struct]) -> None:
    journals = RUN_DIRECTORY.partition("## Journals")[2].partition("\n## ")[0]
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", journals))))
    assert [name for name in record.__struct_fields__ if name not in words] == []


def test_every_section_of_the_report_is_explained() -> None:
    template = DOCS.parent / "results" / "report" / "templates" / "report.html"
    titles = re.findall(r"<h2[^>]*>([^<{]+)</h2>", template.read_text(encoding="utf-8"))
    page = " ".join((DOCS / "report.md").read_text(encoding="utf-8").split())
    assert titles and [title for title in titles if title not in page] == []
