"""Training in several processes, on several GPUs or machines, started by accelerate.

`launch` writes the arguments of `train` to a file and has accelerate start this module with it in every process. The first one
tells its progress on standard output, a JSON line a call; what else is printed goes to the log.
"""

from __future__ import annotations

import json
import os
import pickle
import shlex
import subprocess
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from finetune.score import Scorer
from finetune.train import train
from foundation.errors import BadInput, DynoError, SystemFailed
from foundation.processes.end_with_parent import end_with
from foundation.processes.python_child import SAFE, run_module
from foundation.progress import Progress, Silent

_MARK = "\x1etunedyno "
_LAST_LINES = 20


def launch(
    options: str, arguments: tuple[Any, ...], scorer: Scorer | None, progress: Progress, log: Path
) -> None:
    """`train(*arguments, progress, scorer)` in the processes that accelerate makes of `options` ("accelerate --num_processes 2").

    Raises what training raised; SystemFailed where the processes end without a word.
    """
    try:
        command = shlex.split(options)
    except ValueError as error:
        raise BadInput(f"--launch: {options!r}: {error}; close the quotes") from None
    if command[:1] != ["accelerate"]:
        raise BadInput(
            f'--launch: {options!r}: write "accelerate" and its options, such as "accelerate --num_processes 2"'
        )
    asked = next(
        (int(n) for name, n in pairwise(command) if name == "--num_processes" and n.isdigit()), None
    )
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, log.open("a", encoding="utf-8") as file:
        job = Path(folder) / "job.pickle"
        job.write_bytes(pickle.dumps((arguments, scorer, asked)))
        process = subprocess.Popen(
            run_module(
                "accelerate.commands.launch", *command[1:], "-m", "finetune.launch", str(job)
            ),
            stdout=subprocess.PIPE,
            stderr=file,
            encoding="utf-8",
            errors="replace",
            # None of them imports from the folder they run in.
            env=os.environ | {SAFE: "1"},
            preexec_fn=partial(end_with, os.getpid()),
        )
        try:
            error = _follow(process, progress, file)
            code = process.wait()
        finally:
            process.terminate()
            process.wait()
    if error is not None:
        raise error
    if code:
        last = "\n".join(
            log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        )
        raise SystemFailed(f"finetune: accelerate ended with exit code {code}", last)


def _follow(process: subprocess.Popen[str], progress: Progress, log: TextIO) -> DynoError | None:
    """Pass on what the processes tell until they end; the first error among it."""
    assert process.stdout is not None
    error = None
    for line in process.stdout:
        if not line.startswith(_MARK):
            log.write(line)
            continue
        kind, values = json.loads(line.removeprefix(_MARK))
        if kind in _ERRORS:
            error = error or _ERRORS[kind](*values)
        else:
            getattr(progress, kind)(*values)
    return error


class _Told:
    """A Progress for the process that started this one."""

    def stage(self, name: str, total: float | None, unit: str) -> None:
        _tell("stage", name, total, unit)

    def advance(self, amount: float = 1, note: str = "") -> None:
        _tell("advance", amount, note)

    def log(self, line: str) -> None:
        _tell("log", line)


_ERRORS: dict[str, type[DynoError]] = {"BadInput": BadInput, "SystemFailed": SystemFailed}


def _tell(kind: str, *values: Any) -> None:
    """One write, since several processes may tell at the same time, into the same pipe."""
    sys.stdout.flush()
    os.write(sys.stdout.fileno(), f"{_MARK}{json.dumps([kind, values])}\n".encode())


def main(job: Path) -> int:
    end_with(os.getppid())
    arguments, scorer, asked = pickle.loads(job.read_bytes())
    first = int(os.environ.get("RANK", "0")) == 0
    started = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        if asked is not None and asked != started:
            # Without GPUs, accelerate starts one process whatever it is told, unless it is told this.
            raise BadInput(
                f"--launch: accelerate started {started} of {asked} processes; write --multi_gpu, without GPUs too"
            )
        train(*arguments, _Told() if first else Silent(), scorer)
    except DynoError as error:
        # A loss that is no number may be seen by one process alone, and not the first.
        _tell(
            type(error).__name__,
            str(error),
            *([error.detail] if isinstance(error, SystemFailed) else []),
        )
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
