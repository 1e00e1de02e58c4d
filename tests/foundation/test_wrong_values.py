"""A value of the wrong type is answered with what to write, in our words."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from dyno.experiment.loading import load_experiment
from foundation.errors import BadInput
from foundation.wrong_values import words_for, wrong_value


class Inner(BaseModel):
    number: int = 1


class Values(BaseModel):
    whole: int = Field(1, ge=1)
    share: float = Field(0.5, gt=0, lt=1)
    flag: bool = True
    text: str = Field("a", min_length=1)
    many: tuple[int, ...] = ()
    section: Inner = Inner()
    one: Literal["x", "y"] = "x"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("whole", "three", "write a whole number"),
        ("whole", 1.5, "write a whole number"),
        ("whole", 0, "write at least 1"),
        ("share", "half", "write a number"),
        ("share", 0, "write more than 0"),
        ("share", 2, "write less than 1"),
        ("flag", "perhaps", "write true or false"),
        ("text", 3, "write a text"),
        ("text", "", "write at least 1 character"),
        ("many", 3, "write a list, such as [a, b]"),
        ("section", 3, "write a section, such as {key: value}"),
        ("one", "z", "write 'x' or 'y'"),
    ],
)
def test_what_to_write_is_said_and_no_library_speaks(key: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Values.model_validate({key: value})
    assert wrong_value(refused.value.errors()[0]) == words


def test_a_wrong_option_is_answered_in_the_same_words() -> None:
    theirs = "Input should be a valid integer, unable to parse string as an integer"
    assert words_for(theirs) == "write a whole number"
    assert words_for("No such option: --gat") == "No such option: --gat"


def test_a_files_line_and_the_value_go_with_it(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(
        "name: x\nworkload:\n  blocks: three\n  stages: [{rate: 1, requests: 5}]\n"
        "model: m\nvariants: [{name: a}]\nbaseline: a\n"
    )
    with pytest.raises(BadInput) as refused:
        load_experiment(file)
    assert str(refused.value) == f"{file}:3: workload.blocks: write a whole number, not 'three'"


@pytest.mark.parametrize(
    ("is_run", "words"), [(True, "go on with it: dyno run --resume"), (False, "a folder; name")]
)
def test_a_folder_is_no_experiment(tmp_path: Path, is_run: bool, words: str) -> None:
    if is_run:
        (tmp_path / "experiment.yaml").write_text("name: x\n")
    with pytest.raises(BadInput, match=words):
        load_experiment(tmp_path)
