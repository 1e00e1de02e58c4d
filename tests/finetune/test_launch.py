"""Two processes on the CPU (gloo) learn what one does."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from finetune import train
from finetune.config import FinetuneConfig
from finetune.job import TrainingJob
from finetune.launch import MARK, TrainedElsewhere, follow, launch, outcome, processes_of
from foundation.errors import BadInput, DynoError, SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from tests.finetune.test_cut_off import CutOff
from tests.finetune.test_epochs import exact
from tests.finetune.test_train import HELDOUT, TRAIN, Heard
from tests.vllm_server import free_port

TWO = (
    "accelerate --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no "
    "--dynamo_backend no --main_process_port 0"
)
CONFIG = FinetuneConfig(
    rank=4,
    epochs=2,
    batch_size=8,
    accumulation=2,
    learning_rate=5e-3,
    dtype="float32",
    watch="score",
)


def curve(adapter: Path, key: str) -> list[float]:
    return [
        x[key]
        for x in map(json.loads, (adapter / "training.jsonl").read_text().splitlines())
        if x[key] is not None
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"packing": True, "max_length": 64}], ids=["rows", "packed"]
)
def test_two_processes_reach_the_loss_of_one(
    base: ModelRef, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started in a folder that holds files named like our packages, which must not be imported."""
    for name in ("finetune", "foundation", "accelerate", "socket"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    config = CONFIG.model_copy(update=settings)
    examples = TRAIN if settings else TRAIN[:16]
    one = train(
        TrainingJob(config, base, examples, HELDOUT, None), tmp_path / "one", Silent(), exact
    )
    heard = Heard()
    launch(
        TWO,
        TrainingJob(config, base, examples, HELDOUT, None),
        tmp_path / "two",
        exact,
        heard,
        tmp_path / "log",
    )
    if (
        not settings
    ):  # packed rows do not fall evenly on the processes here, and the last batch is filled up
        assert curve(tmp_path / "two", "loss") == pytest.approx(
            curve(one.adapter, "loss"), rel=1e-3
        )
        assert curve(tmp_path / "two", "tokens") == curve(one.adapter, "tokens")
    assert curve(tmp_path / "two", "heldout_loss") == pytest.approx(
        one.heldout_loss, rel=0.1 if settings else 1e-3
    )
    assert heard.stages[0][0] == "finetune" and heard.steps == heard.stages[0][1]
    assert (tmp_path / "two" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_what_stops_one_process_is_told(base: ModelRef, tmp_path: Path) -> None:
    config = CONFIG.model_copy(
        update={"learning_rate": 1e30, "max_grad_norm": 1e9, "warmup": 0.0, "watch": "loss"}
    )
    with pytest.raises(SystemFailed, match=r"the loss is nan at step \d+"):
        launch(
            TWO,
            TrainingJob(config, base, TRAIN, HELDOUT, None),
            tmp_path / "two",
            None,
            Silent(),
            tmp_path / "log",
        )
    with pytest.raises(BadInput, match="5 examples in 1 parts do not fall evenly on 2 processes"):
        config = CONFIG.model_copy(update={"batch_size": 5, "accumulation": 1})
        launch(
            TWO,
            TrainingJob(config, base, TRAIN, HELDOUT, None),
            tmp_path / "odd",
            exact,
            Silent(),
            tmp_path / "log",
        )
    with pytest.raises(BadInput, match=r"accelerate started 1 of 2 processes; write --multi_gpu"):
        launch(
            TWO.replace("--multi_gpu", "--cpu"),
            TrainingJob(CONFIG, base, TRAIN, HELDOUT, None),
            tmp_path,
            exact,
            Silent(),
            tmp_path / "log",
        )


def test_only_accelerate_launches(base: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match='write "accelerate" and its options'):
        launch(
            "torchrun --nproc 2",
            TrainingJob(CONFIG, base, TRAIN, HELDOUT, None),
            tmp_path,
            None,
            Silent(),
            tmp_path / "log",
        )
    with pytest.raises(BadInput, match="No closing quotation; close the quotes"):
        launch(
            "accelerate 'x",
            TrainingJob(CONFIG, base, TRAIN, HELDOUT, None),
            tmp_path,
            None,
            Silent(),
            tmp_path / "log",
        )


@pytest.mark.slow
def test_two_machines_reach_the_loss_of_one(base: ModelRef, tmp_path: Path) -> None:
    """Each has a folder of its own, and the first alone a checkpoint of a training cut off."""
    job = TrainingJob(
        CONFIG.model_copy(update={"checkpoint_steps": 2}), base, TRAIN[:16], HELDOUT, None
    )
    one = train(job, tmp_path / "one", Silent(), exact)
    folders = [tmp_path / f"machine-{rank}" for rank in (0, 1)]
    heard = CutOff(3)
    with pytest.raises(KeyboardInterrupt):
        train(job, folders[0], heard, exact)
    assert list(folders[0].glob("checkpoint-*"))

    port = free_port()

    def machine(rank: int) -> None:
        launch(
            f"accelerate --multi_gpu --num_machines 2 --machine_rank {rank} --num_processes 2 "
            f"--main_process_ip 127.0.0.1 --main_process_port {port} --mixed_precision no "
            "--dynamo_backend no",
            job,
            folders[rank],
            exact,
            heard,
            tmp_path / f"log-{rank}",
        )

    with ThreadPoolExecutor() as pool:
        first, second = (pool.submit(machine, rank) for rank in (0, 1))
    first.result()
    with pytest.raises(TrainedElsewhere, match="the adapter is on the machine of rank 0"):
        second.result()
    said = "not every machine has the same checkpoint, so the training begins again"
    assert f"finetune: {said}" in heard.said
    for key in ("loss", "heldout_loss"):
        assert curve(folders[0], key) == pytest.approx(curve(one.adapter, key), rel=1e-3)
    assert (folders[0] / "adapter_model.safetensors").is_file()
    assert not (folders[1] / "adapter_model.safetensors").exists()


def outcome_of(code: int, log: Path, *said: tuple[str, str]) -> DynoError | None:
    """What comes of processes that say this and end with a code."""
    lines = [f"{MARK}{json.dumps([kind, [text]])}" for kind, text in said]
    program = f"import sys; print(*{lines!r}, sep=chr(10)); sys.exit({code})"
    command = [sys.executable, "-c", program]
    with (
        log.open("w") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process,
    ):
        errors = follow(process, Silent(), file)
    return outcome(process.returncode, errors)


def test_a_part_is_done_only_where_every_process_ended_well(tmp_path: Path) -> None:
    """A process that was killed after another one had done its part is no end of a training."""
    done, failed = ("TrainedElsewhere", "done"), ("SystemFailed", "the loss is no number")
    log = tmp_path / "log"
    assert isinstance(outcome_of(0, log, done), TrainedElsewhere)
    assert outcome_of(1, log, done) is None
    assert str(outcome_of(1, log, done, failed)) == "the loss is no number"
    assert outcome_of(0, log) is None


@pytest.mark.parametrize("option", ["--num_processes 2", "--num_processes=2", "--num-processes 2"])
def test_the_number_of_processes_is_read_however_it_is_written(option: str) -> None:
    assert processes_of(["accelerate", "--multi_gpu", *option.split(), "--dynamo_backend=no"]) == 2
