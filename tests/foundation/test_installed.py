"""What a package's source says, read without running it."""

from __future__ import annotations

import ast

import pytest

from foundation.installed import assigned


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("a = 3", 3),
        ("a: int = 3", 3),
        ("a: int\na = 3", 3),
        ("b = a = 3", 3),
        ("a: int", None),
        ("b = 3", None),
        ("def a(): ...", None),
    ],
)
def test_the_value_that_a_name_is_given(source: str, value: int | None) -> None:
    node = assigned(ast.parse(source), "a")
    assert (None if node is None else ast.literal_eval(node)) == value
