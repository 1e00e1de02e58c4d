"""What a round takes over from earlier runs, and what its experiment holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dyno.artifacts.stored import is_done
from dyno.improve.measured_run import reuse
from dyno.improve.round_experiment import made_as, new_variant, round_experiment, with_needed
from foundation.errors import BadInput
from foundation.run.layout import RunDirectory
from tests.dyno.test_settle_weights import make, prepared


def test_what_an_earlier_run_made_is_taken_over_by_its_identity(tmp_path: Path) -> None:
    """The round names the same thing otherwise; what it is made of decides."""
    int8 = {"merge": "finetune", "quantize": "w8a8-int8"}
    of = prepared(tmp_path, 16, {"name": "int8", **int8})
    earlier, round_ = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run/improve/round-1")
    earlier.path.mkdir()
    make(of, earlier, b"weights")
    round_.path.mkdir(parents=True)
    after = prepared(tmp_path, 16, {"name": "tuned-int8", **int8})
    places = list(reuse(after, round_, [earlier]))
    assert "checkpoints/tuned-int8" in places and "adapters/finetune" in places
    for artifact in after.graph.folders:
        assert is_done(after.path(artifact, round_), artifact)
    other = RunDirectory(tmp_path / "other")
    other.path.mkdir()
    assert list(reuse(prepared(tmp_path, 8), other, [earlier])) == []


def test_a_round_keeps_the_teachers_of_what_stood(tmp_path: Path) -> None:
    student = {"prune": 0.5, "distil": "merged"}
    experiment = prepared(tmp_path, 16, {"name": "student", **student}).experiment
    known = {variant.name: variant for variant in experiment.variants}
    stood = with_needed(["base", "student"], known, experiment)
    assert [variant.name for variant in stood] == ["base", "merged", "student"]
    new = new_variant({"name": "student", "merge": "finetune", "quantize": "w8a8-int8"}, known)
    assert new.name == "student-2"
    of_round = round_experiment(experiment, stood, [new], 3, 60.0)
    assert [variant.name for variant in of_round.variants] == [*known, "student-2"]
    assert of_round.workload.blocks == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "a", "quantise": "w8a8-int8"}, "quantise"),
        ({"name": "a", "adapter": "finetune", "merge": "finetune"}, "not both"),
    ],
)
def test_what_can_not_be_a_variant_is_refused_in_a_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        new_variant(keys, ())


def test_two_variants_that_differ_in_name_alone_are_made_alike() -> None:
    serve = {"serve": {"enforce_eager": False}}
    one, other = (new_variant({"name": name, **serve}, ()) for name in ("a", "b"))
    assert made_as(one) == made_as(other) != made_as(new_variant({"name": "a"}, ()))


def test_a_variant_s_own_sampling_changes_its_load_alone(tmp_path: Path) -> None:
    limited = {"name": "limited", "merge": "finetune", "sampling": {"max_tokens": 5}}
    plain, of = prepared(tmp_path), prepared(tmp_path, 16, limited)
    [stage] = of.experiment.workload.stages
    base, merged, short = of.experiment.variants
    assert of.experiment.workload_of(short).sampling.max_tokens == 5
    assert of.experiment.workload_of(short).sampling.temperature == 0.0
    assert of.experiment.workload_of(merged) is of.experiment.workload
    assert of.graph.stage(short, stage).identity != of.graph.stage(merged, stage).identity
    for before, after in zip(plain.experiment.variants, (base, merged), strict=True):
        assert plain.graph.stage(before, stage).identity == of.graph.stage(after, stage).identity
