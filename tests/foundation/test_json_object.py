"""JSON that somebody else wrote: an object, or one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.files.json_object import object_if_there, read_object
from foundation.models.adapter_record import FILE, base_fingerprint, prompt_style
from foundation.models.model import ModelRef

BROKEN = {
    "cut": (b'{"a": ', "not JSON"),
    "empty": (b"", "not JSON"),
    "latin-1": ('{"a": "é"}'.encode("latin-1"), "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "a list": (b"[1]", "not a JSON object"),
    "null": (b"null", "not a JSON object"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_object_is_one_line_that_names_the_file(tmp_path: Path, kind: str) -> None:
    content, reason = BROKEN[kind]
    file = tmp_path / "settings.json"
    file.write_bytes(content)
    for read in (read_object, object_if_there):
        with pytest.raises(BadInput, match=f"settings.json: {reason}"):
            read(file)


def test_a_file_that_is_not_there_is_the_callers_to_explain(tmp_path: Path) -> None:
    assert object_if_there(tmp_path / "settings.json") == {}
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "settings.json")


@pytest.mark.parametrize(
    ("record", "fingerprint", "style"),
    [
        ({"base": {"fingerprint": "f"}, "config": {"prompt": "short"}}, "f", ("short",)),
        ({"base": {"fingerprint": "f"}, "config": {"prompt": None}}, "f", (None,)),
        ({"base": "f", "config": ["short"]}, None, None),
        ({"base": {"fingerprint": 7}}, None, None),
        (None, None, None),
    ],
)
def test_a_record_of_training_is_read_as_far_as_it_goes(
    tmp_path: Path, record: object, fingerprint: str | None, style: tuple[str | None] | None
) -> None:
    if record is not None:
        (tmp_path / FILE).write_text(json.dumps(record))
    assert (base_fingerprint(tmp_path), prompt_style(tmp_path)) == (fingerprint, style)


@pytest.mark.parametrize("index", [{}, {"weight_map": ["a.safetensors"]}, {"weight_map": {"w": 7}}])
def test_an_index_without_names_of_files_is_named(tmp_path: Path, index: object) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match=r"model.safetensors.index.json: no index of weights"):
        ModelRef("m", None, tmp_path).shards()
