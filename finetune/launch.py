"""Training in several processes, on several GPUs or machines, started by accelerate.

`launch` writes the arguments of `train` to a file, and accelerate starts this module with it in
every process. The first process reports its progress on standard output, a JSON line a call; other
output goes to the log.
"""

from __future__ import annotations

import json
import os
import pickle
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from finetune.job import TrainingJob
from finetune.score import Scorer
from finetune.train import train
from foundation.errors import BadInput, DynoError, Exit, SystemFailed
from foundation.processes.end_with_parent import end_with
from foundation.processes.python_child import SAFE, run_module
from foundation.progress import Progress, Silent


class TrainedElsewhere(DynoError):
    """The processes here did their part of a training, and another machine has the adapter."""

    exit_code = Exit.DONE


MARK = "\x1etunedyno "
_LAST_LINES = 20
_ERRORS: dict[str, type[DynoError]] = {
    each.__name__: each for each in (BadInput, SystemFailed, TrainedElsewhere)
}


def launch(
    options: str,
    job: TrainingJob,
    out: Path,
    scorer: Scorer | None,
    progress: Progress,
    log: Path,
) -> None:
    """Run `train` in the processes that accelerate starts by `options`.

    `options` is such as "accelerate --num_processes 2". Raises what the training raised, and
    SystemFailed where the processes end without a reason.
    """
    command = _command(options)
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, log.open("a", encoding="utf-8") as file:
        pickled = Path(folder) / "job.pickle"
        pickled.write_bytes(pickle.dumps((job, out, scorer, processes_of(command))))
        code, errors = _run(command, pickled, progress, file)
    if (error := outcome(code, errors)) is not None:
        raise error
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise SystemFailed(
            f"finetune: accelerate ended with exit code {code}", "\n".join(lines[-_LAST_LINES:])
        )


def _command(options: str) -> list[str]:
    try:
        command = shlex.split(options)
    except ValueError as error:
        raise BadInput(f"--launch: {options!r}: {error}; close the quotes") from None
    if command[:1] != ["accelerate"]:
        raise BadInput(
            f'--launch: {options!r}: write "accelerate" and its options, '
            'such as "accelerate --num_processes 2"'
        )
    return command


def processes_of(command: list[str]) -> int | None:
    """The number of processes that the command names."""
    words = [part for word in command for part in word.split("=", 1)]
    numbers = (b for a, b in pairwise(words) if a.replace("-", "_") == "__num_processes")
    return next((int(number) for number in numbers if number.isdigit()), None)


def _run(
    command: list[str], pickled: Path, progress: Progress, log: TextIO
) -> tuple[int, list[DynoError]]:
    """The exit code of accelerate, and what its processes raised, in order."""
    process = subprocess.Popen(
        run_module(
            "accelerate.commands.launch", *command[1:], "-m", "finetune.launch", str(pickled)
        ),
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        errors="replace",
        # None of them imports from the folder that they run in.
        env=os.environ | {SAFE: "1"},
        preexec_fn=partial(end_with, os.getpid()),
    )
    try:
        errors = follow(process, progress, log)
        return process.wait(), errors
    finally:
        process.terminate()
        process.wait()


def outcome(code: int, errors: Sequence[DynoError]) -> DynoError | None:
    """The first failure that a process reported, or that another machine has the adapter.

    None where nobody said anything, and where a process failed and did not say why.
    """
    failures = [error for error in errors if not isinstance(error, TrainedElsewhere)]
    return next(iter(failures or ([] if code else errors)), None)


def follow(process: subprocess.Popen[str], progress: Progress, log: TextIO) -> list[DynoError]:
    """Pass the reported progress on until the processes end, and return what they raised."""
    assert process.stdout is not None
    errors: list[DynoError] = []
    for line in process.stdout:
        if not line.startswith(MARK):
            log.write(line)
            continue
        kind, values = json.loads(line.removeprefix(MARK))
        if kind in _ERRORS:
            errors.append(_ERRORS[kind](*values))
        else:
            getattr(progress, kind)(*values)
    return errors


class _ReportedProgress:
    """A Progress whose calls go to the process that started this one."""

    def stage(self, name: str, total: float | None, unit: str) -> None:
        _report("stage", name, total, unit)

    def advance(self, amount: float = 1, note: str = "") -> None:
        _report("advance", amount, note)

    def log(self, line: str) -> None:
        _report("log", line)


def _report(kind: str, *values: Any) -> None:
    """Write one line at once: several processes may write into the same pipe at the same time."""
    sys.stdout.flush()
    os.write(sys.stdout.fileno(), f"{MARK}{json.dumps([kind, values])}\n".encode())


def main(pickled: Path) -> int:
    """Train as one of the processes that accelerate started; the exit code."""
    end_with(os.getppid())
    job, out, scorer, processes = pickle.loads(pickled.read_bytes())
    is_first = int(os.environ.get("RANK", "0")) == 0
    started = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        if processes is not None and processes != started:
            # Without GPUs, accelerate starts one process unless --multi_gpu says otherwise.
            raise BadInput(
                f"--launch: accelerate started {started} of {processes} processes; "
                "write --multi_gpu, without GPUs too"
            )
        train(job, out, _ReportedProgress() if is_first else Silent(), scorer)
        if not is_first and os.environ.get("LOCAL_RANK") == "0":
            raise TrainedElsewhere(
                "finetune: this machine has done its part of the training; "
                "the adapter is on the machine of rank 0"
            )
    except DynoError as error:
        # A loss that is no number may be seen by one process alone, and not the first.
        details = [error.detail] if isinstance(error, SystemFailed) else []
        _report(type(error).__name__, str(error), *details)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
