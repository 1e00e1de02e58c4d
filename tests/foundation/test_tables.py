"""Examples from CSV, Parquet and hub data sets are those of the same rows as JSON lines."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.data.examples import read_examples
from foundation.errors import BadInput

ROWS = [
    {"prompt": "a, b", "completion": "one"},
    {"prompt": 'says "c"\non two lines', "completion": "two"},
]
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)


def write_csv(file: Path, rows: list[dict[str, str]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


@given(
    st.lists(st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT}), min_size=1, max_size=5)
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_come_back(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    table = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    lines = tmp_path / "t.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    contents = [
        [(e.messages, e.completion) for e in read_examples(f)]
        for f in (lines, write_csv(tmp_path / "t.csv", rows), table)
    ]
    assert contents[0] == contents[1] == contents[2]


def test_a_line_of_a_csv_file_is_named_where_it_ends(tmp_path: Path) -> None:
    assert [e.line for e in read_examples(write_csv(tmp_path / "t.csv", ROWS))] == [2, 4]
    (tmp_path / "t.csv").write_text("prompt,completion\na,b\na,b,c\n")
    with pytest.raises(BadInput, match=r"t\.csv:3: not the 2 columns of the header"):
        read_examples(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("prompt,completion\na,\n")
    with pytest.raises(BadInput, match=r"t\.csv:2: completion"):
        read_examples(tmp_path / "t.csv")


def test_columns_of_other_names(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "t.csv", [{"text": "Is it?", "label": "yes"}])
    [examples] = read_examples(file, {"prompt": "text", "completion": "label"})
    assert (examples.messages[0]["content"], examples.completion) == ("Is it?", "yes")
    with pytest.raises(
        BadInput,
        match=r"t\.csv:2: data\.columns names 'lable', which is no column .did you mean 'label'",
    ):
        read_examples(file, {"prompt": "text", "completion": "lable"})


def test_what_is_no_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(BadInput, match="not a Parquet file"):
        read_examples(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    with pytest.raises(BadInput, match="git lfs pull"):
        read_examples(tmp_path / "t.parquet")


def test_a_hub_data_set_with_class_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder laid out as on the hub, which `datasets` takes for the data set of that name."""
    folder = tmp_path / "org" / "topics"
    (folder / "data").mkdir(parents=True)
    table = pyarrow.table(
        {"text": ["oil", "wheat"], "label": pyarrow.array([1, 0], pyarrow.int64())}
    )
    pyarrow.parquet.write_table(table, folder / "data" / "train-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n"
        "    dtype:\n      class_label:\n"
        "        names:\n          '0': grain\n          '1': crude\n---\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    # As by the variable HF_HUB_OFFLINE; else it tries the hub six times in 23 s.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    columns = {"prompt": "text", "completion": "label"}
    examples = read_examples("hub:org/topics:train", columns)
    assert [(e.messages[0]["content"], e.completion) for e in examples] == [
        ("oil", "crude"),
        ("wheat", "grain"),
    ]
    assert len(read_examples("hub:org/topics:train[:1]", columns)) == 1
    with pytest.raises(
        BadInput, match="not in the local hub cache, and not to be had from the hub"
    ):
        read_examples("hub:org/nothing:train")
    with pytest.raises(BadInput, match="write hub:ORG/NAME:SPLIT"):
        read_examples("hub:topics")
