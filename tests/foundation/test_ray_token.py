"""The token by which a Ray cluster knows its users."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.ray_token import token_mode

SHOWN = {"RAY_AUTH_MODE": "token"}


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_that_a_variable_names_is_shown(name: str, tmp_path: Path) -> None:
    assert token_mode({name: "x"}, tmp_path) == SHOWN


def test_a_token_in_the_home_folder_is_shown(tmp_path: Path) -> None:
    assert token_mode({}, tmp_path) == {}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    assert token_mode({}, tmp_path) == SHOWN


def test_a_mode_that_the_user_chose_stays(tmp_path: Path) -> None:
    assert token_mode({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "x"}, tmp_path) == {}
