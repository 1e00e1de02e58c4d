"""A YAML bomb or a repeated key in an experiment is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.experiment.loading import load_experiment
from dyno.experiment.yaml_lines import read_yaml
from foundation.errors import BadInput

GOOD = """\
name: t
model: m
data: {prompt: Hi}
variants:
  - {name: a, url: "http://h/v1", model: m}
baseline: a
workload: {stages: [{concurrency: 1, requests: 2}]}
"""
KEY = "sk-proj-canary0123456789"


def refused(folder: Path, text: str) -> str:
    file = folder / "e.yaml"
    file.write_text(text)
    with pytest.raises(BadInput) as error:
        load_experiment(file)
    words = str(error.value)
    assert words.startswith(f"{file}:") and "\n" not in words and len(words) < 400
    return words.removeprefix(f"{file}:")


def bomb(first: str, fold: str) -> str:
    rows = [f"a0: &a0 {first}"]
    rows += [f"a{n}: &a{n} {fold % ', '.join([f'*a{n - 1}'] * 9)}" for n in range(1, 9)]
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (bomb("[x, x, x, x, x, x, x, x, x]", "[%s]"),
            "6: not YAML (it unfolds into more than 100,000 values)"),
        (bomb("{x: y}", "{<<: [%s]}"), "unfolds into more than"),
        ("a: &a [*a]", "1: not YAML (an alias stands within what it names)"),
        ("a: " + "[" * 10_000, "not YAML (it is nested too deep to be read)"),
        ("a: " + "{a: " * 10_000, "not YAML (it is nested too deep to be read)"),
        (GOOD + "seed: 1\nmodel: other\n",
            "9: not YAML (model stands here a second time, the first is in line 2)"),
        (GOOD.replace("requests: 2", "requests: 2, requests: 900"),
            "7: not YAML (requests stands here a second time"),
        *((GOOD + f"x: {odd}\n",
            "not YAML (a value is not of the kind that its tag (!!int, !!bool, ...) promises)")
          for odd in ("!!int abc", "!!int ''", "!!float ''", "!!float abc", "!!bool maybe",
              "!!set [a]", "!!map abc")),
        (GOOD + "x: !!int [1]\n", "8: not YAML (expected a scalar node, but found sequence)"),
        (GOOD + "x: !!python/object/apply:os.system [id]\n",
            "8: not YAML (could not determine a constructor"),
        (GOOD.replace("name: t", "name: \x00"), "not YAML (special characters are not allowed)"),
        (GOOD.replace("requests: 2", f"requests: {'9' * 5_000}"),
            "7: workload.stages.0.requests: "),
        (GOOD.replace("requests: 2", f"requests: {{{'a: ' * 1}{'b' * 5_000}}}"),
            "7: workload.stages.0.requests: "),
        ("- 1", " write an experiment as key: value lines"),
    ],
)  # fmt: skip
def test_what_would_not_end_or_means_two_things(tmp_path: Path, text: str, says: str) -> None:
    assert says in refused(tmp_path, text)


def test_a_file_of_data_is_no_experiment(tmp_path: Path) -> None:
    with (tmp_path / "e.yaml").open("wb") as file:
        file.truncate(30 << 20)
    with pytest.raises(BadInput, match="larger than 1 MB, and an experiment is a page"):
        load_experiment(tmp_path / "e.yaml")


def test_an_alias_and_a_merge_that_people_write_are_read() -> None:
    text = "usual: &usual {rate: 5, requests: 10}\nstages: [*usual, {<<: *usual, rate: 9}]\n"
    assert read_yaml(text)["stages"] == [{"rate": 5, "requests": 10}, {"rate": 9, "requests": 10}]


def test_a_date_is_a_word(tmp_path: Path) -> None:
    assert read_yaml("name: 2026-02-31") == {"name": "2026-02-31"}


@pytest.mark.parametrize(
    "line",
    [
        f"api_key_env: {KEY}",
        "api_key_env: hf_canary0123456789",
        "api_key_env: ${CANARY0123456789}",
        f"request: {KEY}",
        f"request: {{headers: {KEY}}}",
        f"request: {{headers: {{x: [{KEY}]}}}}",
        f"request: {{headers: {{'{KEY} x': y}}}}",
        f"request: {{omit: {{x: {KEY}}}}}",
        f"adapter: {{x: {KEY}}}",
        f"prompt: [{KEY}]",
        f"{KEY}: x",
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(tmp_path: Path, line: str) -> None:
    words = refused(tmp_path, GOOD.replace("model: m}", f"model: m, {line}}}"))
    assert "canary" not in words.lower() and words.startswith("5: variants.0")


@pytest.mark.parametrize(
    "url",
    [
        "http://bob:canary/x@h/v1",
        "http://bob:canary#x@h/v1",
        "http://[bob:canary@h/v1",
        "canary://bob",
    ],
)
def test_a_password_in_an_address_that_is_none_is_not_repeated(tmp_path: Path, url: str) -> None:
    from dyno.experiment.endpoints import endpoint_of

    (tmp_path / "e.yaml").write_text(GOOD.replace("http://h/v1", url))
    with pytest.raises(BadInput) as error:
        endpoint_of(load_experiment(tmp_path / "e.yaml").variants[0], "chat")
    assert "canary" not in str(error.value)
