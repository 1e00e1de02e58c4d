"""`grid` of a variant: one variant for each combination, with names and lines that lead back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.experiment.grid import MOST_VARIANTS, expanded, place_in_file
from dyno.experiment.schema import Experiment
from foundation.names import LONGEST_OF_GRID, checked_variant_name
from tests.dyno.experiment_files import load, mistake

FILE = """\
name: trial
model: org/model
data: {train: train.jsonl, eval: eval.jsonl}
prompts: {short: "S {input}", long: "L {input}"}
finetune: {rank: 8}
variants:
  - {name: base}
  - name: int8
    merge: finetune
    quantize: w8a8-int8
    grid:
      serve.engine.max-num-seqs: [16, 64]
      serve.enforce_eager: [true, false]
  - {name: last, model: org/other}
baseline: base
workload: {stages: [{rate: 2.0, duration: 60s}]}
"""
NAMES = [
    "base",
    "int8@max-num-seqs=16,enforce_eager=true",
    "int8@max-num-seqs=16,enforce_eager=false",
    "int8@max-num-seqs=64,enforce_eager=true",
    "int8@max-num-seqs=64,enforce_eager=false",
    "last",
]


def test_a_grid_makes_one_variant_a_combination(tmp_path: Path) -> None:
    experiment = load(tmp_path, FILE)
    assert [v.name for v in experiment.variants] == NAMES
    assert experiment.of_grids == {"int8": 4}
    settings = [
        (experiment.serve_of(v).options, experiment.serve_of(v).enforce_eager)
        for v in experiment.variants[1:5]
    ]
    assert settings == [
        ({"max-num-seqs": 16}, True),
        ({"max-num-seqs": 16}, False),
        ({"max-num-seqs": 64}, True),
        ({"max-num-seqs": 64}, False),
    ]
    assert {v.merge for v in experiment.variants[1:5]} == {"finetune"}


def test_the_resolved_file_holds_the_variants_and_reads_back_as_the_same(tmp_path: Path) -> None:
    experiment = load(tmp_path, FILE)
    text = experiment.as_yaml()
    again = load(tmp_path, text)
    assert "grid" not in text
    assert again == experiment and again.of_grids == experiment.of_grids
    assert [again.serve_of(v) for v in again.variants] == [
        experiment.serve_of(v) for v in experiment.variants
    ]


def test_a_grid_is_raced_unless_it_says_otherwise_or_nobody_could_leave(tmp_path: Path) -> None:
    asked = FILE + "slo: {latency_p95: 2s}\n"
    assert load(tmp_path, asked).races
    assert not load(tmp_path, FILE).races  # nothing is asked
    workload = "workload: {stages"
    assert not load(tmp_path, asked.replace(workload, "workload: {race: false, stages")).races
    plain = asked.replace("    grid:\n", "").replace(
        "      serve.engine.max-num-seqs: [16, 64]\n", ""
    )
    assert not load(tmp_path, plain.replace("      serve.enforce_eager: [true, false]\n", "")).races


VALUES = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-5, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet="abcXYZ019 .:/{}\"'@=,-é", min_size=1, max_size=40),
)
KEYS = st.one_of(
    st.sampled_from(
        ["serve.dtype", "serve.kv_cache", "finetune.rank", "finetune.dtype", "quantize", "prompt"]
    ),
    st.from_regex(r"serve\.engine\.[a-z]{2,12}(-[a-z]{2,6})?(\.[a-z_]{2,9})?", fullmatch=True),
)


def text_of(value: object) -> str:
    return yaml.safe_dump(value, width=10**6).splitlines()[0]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        KEYS, st.lists(VALUES, min_size=1, max_size=4, unique_by=str), min_size=1, max_size=3
    )
)
def test_there_are_as_many_variants_as_combinations_each_with_a_name_of_its_own(
    grid: dict[str, list[object]],
) -> None:
    try:
        variants = [each for _, each in expanded([{"name": "v", "grid": grid}])]
    except ValueError as refused:  # 1 and "1", null and "null" are one text; a key within a key
        assert "twice" in str(refused) or "beside" in str(refused)
        return
    assert len(variants) == prod(len(values) for values in grid.values())
    names = [str(v["name"]) for v in variants if isinstance(v, Mapping)]
    assert len(set(names)) == len(variants)
    for name in names:
        if len(name) <= LONGEST_OF_GRID:
            assert checked_variant_name(name) == name
            assert Path(name).name == name
    combinations = [
        tuple(repr(_value(v, key)) for key in grid) for v in variants if isinstance(v, Mapping)
    ]
    assert len(set(combinations)) == len(variants)


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"serve\.engine\.[a-z]{2,9}(-[a-z]{2,6})?", fullmatch=True),
        st.lists(st.one_of(st.integers(0, 99), st.booleans(), st.none()), min_size=1, max_size=3)
        .map(lambda values: list({repr(value): value for value in values}.values())),
        min_size=1,
        max_size=3,
    )
)  # fmt: skip
def test_any_grid_reads_back_from_the_resolved_file(
    tmp_path_factory: pytest.TempPathFactory, grid: dict[str, list[object]]
) -> None:
    made = yaml.safe_load(FILE)
    made["variants"][1]["grid"] = grid
    experiment = Experiment.model_validate(made)
    again = load(tmp_path_factory.mktemp("grid"), experiment.as_yaml())
    assert again == experiment
    assert [again.serve_of(v).options for v in again.variants] == [
        experiment.serve_of(v).options for v in experiment.variants
    ]


def _value(variant: Mapping[str, Any], key: str) -> object:
    section, _, rest = key.partition(".")
    if not rest:
        return variant[section]
    inner = variant[section]
    return inner["engine"][rest.removeprefix("engine.")] if "engine." in rest else inner[rest]


def test_each_variant_leads_back_to_its_place_in_the_file() -> None:
    variants = yaml.safe_load(FILE)["variants"]
    assert place_in_file(variants, ["variants", 5, "model"]) == ["variants", 2, "model"]
    assert place_in_file(variants, ["variants", "3", "merge"]) == ["variants", 1, "merge"]
    assert place_in_file(variants, ["variants", 4, "serve", "engine", "max-num-seqs"]) == [
        "variants",
        1,
        "grid",
        "serve.engine.max-num-seqs",
    ]
    assert place_in_file(variants, ["workload", "stages", 0]) == ["workload", "stages", 0]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("model: org/other", "modal: x", 14, "variants.2.modal: unknown key (did you mean 'model'"),
        ("name: last", "name: base", 6, "variants: two are named 'base'"),
        (
            "[true, false]",
            "[true, maybe]",
            13,
            "variants.1.grid.serve.enforce_eager: write true or false",
        ),
        ("[true, false]", "[true, yes, 'true']", 13, "true stands there twice"),
        ("[true, false]", "[]", 13, "variants.1.grid.serve.enforce_eager: write a list of values"),
        ("[true, false]", "true", 13, "write a list of values, such as [16, 64]"),
        ("serve.enforce_eager", "serve.ports", 13, "variants.1.grid.serve.ports: unknown key; all"),
        ("serve.enforce_eager", "model", 13, "variants.1.grid.model: a grid varies keys of serve"),
        ("serve.enforce_eager", "serve.engine", 13, "a grid varies keys of serve"),
        ("serve.enforce_eager", "quantize", 13, "the variant says quantize itself; leave one"),
        ("serve.enforce_eager", "quantize.method", 13, "the variant says quantize.method itself"),
        ("[16, 64]", str(list(range(2000))), 11, "it has 4,000 combinations, and an experiment at"),
        ("baseline: base", "baseline: int8", 15, "'int8' is a grid of 4 variants; write one of"),
        (
            "baseline: base",
            "baseline: int8@max-num-seqs=16,enforce_eager=no",
            15,
            "did you mean 'int8@max-num-seqs=16,enforce_eager=",
        ),
        ("rate: 2.0", "rate: {of: int8, share: 60%}", 16, "rate.of: 'int8' is a grid of 4"),
        (
            "model: org/other",
            "distil: int8, model: x",
            14,
            "variants.2.distil: 'int8' is a grid of 4 variants; write one of them, such as 'int8@",
        ),
        ("name: int8", "name: a@b", 8, "'a@b@max-num-seqs=16,enforce_eager=true' is no name"),
        ("name: int8", f"name: {'x' * 140}", 8, "a name of 140 characters"),
        ("    grid:\n", "    serve: 3\n    grid:\n", 11, "variants.1.serve: the grid varies keys"),
    ],
)
def test_a_mistake_gets_one_line_with_the_line_of_the_file(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    assert old in FILE
    message = mistake(tmp_path, FILE.replace(old, new, 1))
    assert message.startswith(f"{line}: ") and says in message, message


def test_a_grid_of_thousands_is_refused_before_it_is_made() -> None:
    large = {key: list(range(300)) for key in ("serve.engine.a", "serve.engine.b", "finetune.rank")}
    with pytest.raises(ValueError, match=rf"27,000,000 combinations, .* at most {MOST_VARIANTS} "):
        expanded([{"name": "v", "grid": large}])


def test_as_many_values_as_a_file_can_hold_are_refused_in_seconds() -> None:
    """To compare each with each took minutes."""
    began = time.process_time()
    with pytest.raises(ValueError, match="60,000 combinations"):
        expanded([{"name": "v", "grid": {"serve.engine.a": list(range(60_000))}}])
    assert time.process_time() - began < 10


def test_values_that_can_be_no_name_are_named_by_their_place() -> None:
    drafts = [{"method": "ngram"}, None, "a b"]
    variants = [
        each
        for _, each in expanded(
            [{"name": "v", "grid": {"serve.engine.speculative-config": drafts}}]
        )
    ]
    assert [v["name"] for v in variants if isinstance(v, Mapping)] == [
        "v@speculative-config=no.1",
        "v@speculative-config=null",
        "v@speculative-config=no.3",
    ]


def test_keys_that_end_alike_are_named_in_full() -> None:
    grid = {"serve.dtype": ["auto"], "finetune.dtype": ["auto"], "finetune.rank": [8]}
    [(_, variant)] = expanded([{"name": "v", "merge": "finetune", "grid": grid}])
    assert isinstance(variant, Mapping)
    assert variant["name"] == "v@serve.dtype=auto,finetune.dtype=auto,rank=8"
    assert variant["finetune"] == {"dtype": "auto", "rank": 8}
