"""Steps from the stamps of arrivals, against the engine that made them and its own record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from foundation.run.journal import Journal, read_journal
from foundation.run.records import RequestRecord
from results.capacity.model.engine_model import EngineModel
from results.capacity.model.models_of_run import demand_of_run, engine_models
from results.capacity.model.stamped_steps import IN_PIECES, UNFIT, stamped_steps
from results.capacity.model.steps import Steps
from results.inputs import RunInputs
from tests.results.synthetic import inputs
from tests.results.synthetic_engine import BACK_S, FRONT_S, TOKEN_S, TRUE, write_run
from tests.run_files import MS, answer, header, write_block

RATES = (2.0, 10.0, 20.0, 40.0)
LOAD = np.array([1, 8, 100, 1500, 0])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, RATES, seconds=10.0)
    return folder


def asked(run: Path) -> RunInputs:
    return replace(inputs(run, ["v"]), judged_stage="at-20")


def journal(run: Path, rate: float) -> Journal:
    block = read_journal(run / "load" / "v" / f"at-{rate:g}" / "block-01.jsonl")
    assert isinstance(block, Journal)
    return block


def modelled(run: Path) -> EngineModel:
    model = engine_models(asked(run))["v"]
    assert isinstance(model, EngineModel), model
    return model


@pytest.fixture(scope="module")
def both(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineModel, EngineModel]:
    """From the engine record, and from the stamps of the same load alone."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "load").symlink_to(run / "load")
    return modelled(run), modelled(elsewhere)


def test_the_record_and_the_stamps_give_the_same_model(
    both: tuple[EngineModel, EngineModel],
) -> None:
    recorded, stamped = both
    assert (recorded.source, stamped.source) == ("engine record", "kernel stamps")
    truth = float(TRUE @ LOAD)
    assert recorded.steps.coefficients @ LOAD == pytest.approx(truth, rel=0.02)
    assert stamped.steps.coefficients @ LOAD == pytest.approx(truth, rel=0.03)
    for model in (recorded, stamped):
        low, high = np.percentile(model.draws @ LOAD, (0.5, 99.5))
        assert low <= truth <= high
        assert model.residual < 0.1
        assert model.fitted.rate == pytest.approx(40.0, rel=0.2)
    assert recorded.scheduler.max_num_seqs == 64
    assert stamped.scheduler.max_num_seqs is None
    assert any("limits of the scheduler are not known" in note for note in stamped.notes)


def test_the_front_end_is_that_of_requests_that_came_alone(
    both: tuple[EngineModel, EngineModel],
) -> None:
    recorded, stamped = (model.front for model in both)
    assert recorded.per_request == pytest.approx(FRONT_S, rel=0.02)
    assert recorded.per_input_token == pytest.approx(TOKEN_S, rel=0.02)
    assert recorded.per_output_token == pytest.approx(BACK_S + 0.1e-3, rel=0.1)
    around = FRONT_S + BACK_S + 150 * TOKEN_S
    assert stamped.per_output_token == 0.0
    assert stamped.per_request + 150 * stamped.per_input_token == pytest.approx(around, rel=0.25)


def test_few_steps_do_not_fit(run: Path) -> None:
    for rate in RATES:
        steps = stamped_steps(journal(run, rate), rate)
        assert isinstance(steps, Steps)
        assert steps.left_out[UNFIT] == 0
        assert steps.left_out[IN_PIECES] < 0.2 * len(steps)


def test_the_demand_is_that_of_the_judged_stage(run: Path) -> None:
    demand = demand_of_run(asked(run))
    block = journal(run, 20.0).requests
    inside = block.scheduled_ns < 10 * 10**9
    assert len(demand) == int(inside.sum())
    assert demand.input_tokens.tolist() == block.input_tokens[inside].tolist()
    assert demand.output_tokens.tolist() == block.output_tokens[inside].tolist()
    assert demand.rate == pytest.approx(20.0, rel=0.1)


def stamps(run: Path, *records: RequestRecord) -> Steps | str:
    block = read_journal(write_block(run, header(clock="kernel"), records, None))
    assert isinstance(block, Journal)
    return stamped_steps(block, 1.0)


def test_two_requests_by_hand(tmp_path: Path) -> None:
    first = [20 * MS, 10 * MS, 10 * MS, 14 * MS]
    second = [54 * MS + 50_000, 10 * MS, 11 * MS]
    # The first ends with a token without text; the second comes while the last step but one runs.
    steps = stamps(
        tmp_path,
        answer(0, "a", 0, first, input_tokens=10, output_tokens=5, done_ns=64 * MS),
        answer(1, "b", 35 * MS, second, input_tokens=20),
    )
    assert isinstance(steps, Steps)
    assert steps.elapsed == pytest.approx([0.01, 0.01, 0.014, 0.01, 0.011])
    assert steps.decodes.tolist() == [1, 1, 1, 2, 1]
    assert steps.prefill_tokens.tolist() == [0, 0, 20, 0, 0]
    assert steps.kv_tokens.tolist() == [10, 11, 12, 13 + 20, 21]
    assert steps.pairs.tolist() == [0, 0, 200, 0, 0]


def test_a_token_without_text_still_is_in_its_step(tmp_path: Path) -> None:
    steps = stamps(
        tmp_path,
        answer(0, "a", 0, [20 * MS] + [10 * MS] * 4, input_tokens=10),
        answer(
            1, "b", 0, [20 * MS + 20_000, 20 * MS, 20 * MS], input_tokens=10,
            chunk_tokens=[1, 2, 2], output_tokens=5,
        ),
    )  # fmt: skip
    assert isinstance(steps, Steps)
    assert steps.decodes.tolist() == [2, 2, 2, 2]
    assert steps.kv_tokens.tolist() == [20, 22, 24, 26]


def test_chunks_of_several_tokens_a_step_are_no_steps(tmp_path: Path) -> None:
    chunks = [20 * MS] + [10 * MS] * 4
    many = answer(0, "a", 0, chunks, chunk_tokens=[3] * 5, output_tokens=15, input_tokens=9)
    assert stamps(tmp_path, many) == "the tokens do not arrive in steps of one engine"


@pytest.mark.parametrize("tokens", [1, 3])
def test_answers_of_one_chunk_each_show_no_step(tmp_path: Path, tokens: int) -> None:
    """A first chunk may also carry more tokens than steps have passed since the block began."""
    alone = [
        answer(i, f"q{i}", i * 100 * MS, [(i * 100 + 30) * MS], input_tokens=8,
               chunk_tokens=[tokens], output_tokens=tokens)
        for i in range(4)
    ]  # fmt: skip
    assert stamps(tmp_path, *alone) == "the tokens do not arrive in steps of one engine"


def test_a_first_chunk_of_more_tokens_than_steps_before_it_is_lost_alone(tmp_path: Path) -> None:
    many = answer(0, "many", 0, [30 * MS, 10 * MS, 10 * MS], input_tokens=8,
                  chunk_tokens=[6, 1, 1], output_tokens=8)  # fmt: skip
    late = answer(1, "late", 100 * MS, [130 * MS, *[10 * MS] * 5], input_tokens=8)
    steps = stamps(tmp_path, many, late)
    assert isinstance(steps, Steps)
    assert steps.elapsed == pytest.approx([0.01] * len(steps))


def test_a_prompt_that_takes_several_steps_hides_what_is_in_them(tmp_path: Path) -> None:
    """The second request is sent at 35 ms, and the steps that end at 50, 70 and 90 compute it."""
    steps = stamps(
        tmp_path,
        answer(0, "a", 0, [20 * MS, 10 * MS, 10 * MS, *[20 * MS] * 3, *[11 * MS] * 2],
               input_tokens=10),
        answer(1, "b", 35 * MS, [100 * MS + 9_000, 11 * MS, 11 * MS], input_tokens=999),
        answer(2, "c", 200 * MS, [220 * MS, 10 * MS], input_tokens=10),
    )  # fmt: skip
    assert isinstance(steps, Steps)
    assert steps.elapsed == pytest.approx([0.01, 0.01, 0.02, 0.011, 0.011, 0.01])
    assert steps.left_out == {UNFIT: 0, IN_PIECES: 2}


def test_only_the_kernel_s_stamps_are_steps(run: Path) -> None:
    block = journal(run, 2.0)
    read_late = replace(block, header=msgspec.structs.replace(block.header, clock="user"))
    assert stamped_steps(read_late, 2.0) == (
        "the kernel did not stamp the arrivals (a proxy, TLS or another transport)"
    )


def test_a_run_without_steps_says_why(tmp_path: Path) -> None:
    write_block(tmp_path, header(), [answer(0, "q", 0, [MS])], None)
    (reason,) = engine_models(asked(tmp_path)).values()
    assert reason == (
        "the engine record has no steps; the kernel did not stamp the arrivals (a proxy, TLS or "
        "another transport)"
    )
    assert engine_models(replace(asked(tmp_path), variants=inputs(tmp_path, ["w"]).variants)) == {
        "w": "nothing was measured"
    }


@pytest.mark.parametrize(("cached", "is_named"), [(b"null", True), (b"0", False)])
def test_a_prefix_cache_that_says_nothing_is_named(
    run: Path, tmp_path: Path, cached: bytes, is_named: bool
) -> None:
    file = run / "load" / "v" / "at-10" / "block-01.jsonl"
    copy = tmp_path / file.relative_to(run)
    copy.parent.mkdir(parents=True)
    text = file.read_bytes().replace(b'"shared_tokens":null', b'"shared_tokens":5')
    copy.write_bytes(text.replace(b'"cached_tokens":null', b'"cached_tokens":' + cached))
    notes = modelled(tmp_path).notes
    assert any("what its prefix cache knew" in note for note in notes) == is_named
