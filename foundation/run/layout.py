"""Where everything of a run lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from foundation.errors import BadInput, SystemFailed
from foundation.files.folder_lock import locked
from foundation.path_fields import expanded


@dataclass(frozen=True)
class RunDirectory:
    """The layout of `runs/NAME/`."""

    path: Path

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def calibration(self) -> Path:
        return self.path / "calibration.json"

    @property
    def variants(self) -> Path:
        return self.path / "variants.json"

    @property
    def prompts(self) -> Path:
        return self.path / "prompts.jsonl"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def telemetry(self) -> Path:
        return self.path / "telemetry"

    @staticmethod
    def partial(folder: Path) -> Path:
        """Where the folder is written until it is whole."""
        return folder.with_name(folder.name + ".partial")

    def journal(self, variant: str, stage: str, block: int) -> Path:
        return self.path / "load" / variant / stage / f"block-{block:02d}.jsonl"

    def warm_up(self, variant: str) -> Path:
        """The journal of what a variant was asked before anything counted."""
        return self.logs / f"warm-up-{variant}.jsonl"

    def check_there(self) -> None:
        """Raises SystemFailed where the folder was moved or removed under the run."""
        if not self.experiment.exists():
            raise SystemFailed(f"{self.path}: was moved or removed while the run went on")

    @property
    def rates(self) -> Path:
        """The relative rates of this run, as measured."""
        return self.path / "rates.json"

    def closed_loop(self, variant: str, concurrency: int) -> Path:
        """The journal of a short closed loop that a relative rate is measured by."""
        return self.logs / f"rate-{variant}-{concurrency}-in-flight.jsonl"


def check_root(root: Path) -> None:
    """Raises BadInput where no run directory can be made in `root`: before anything slow, and without making one."""
    root = expanded(root)
    standing = next(
        folder for folder in (root, *root.absolute().parents) if os.path.lexists(folder)
    )
    if not standing.is_dir():
        raise BadInput(f"{standing}: not a folder; name another with --out")
    if not os.access(standing, os.W_OK | os.X_OK):
        raise BadInput(f"{standing}: can't be written; name another folder with --out")


def new_run(root: Path, name: str) -> RunDirectory:
    """`root/name`, or `root/name-2`, ... where that is taken. No other process gets the same one."""
    root = expanded(root)
    names = (name if n == 1 else f"{name}-{n}" for n in count(1))
    while True:
        path = root / next(names)
        try:
            root.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            check_root(root)
        except OSError as error:
            raise BadInput(
                f"{path}: can't be made ({error.strerror}); name another folder with --out"
            ) from None
        else:
            return RunDirectory(path)


@contextmanager
def held_run(at: RunDirectory | Path) -> Iterator[Callable[[str], RunDirectory]]:
    """A run directory that this process alone works in, by its name: the one that is there, or a new one in the folder `at`.

    One that is there is held at once, a new one from when it is made. Raises BadInput where another process holds it, or
    where none can be made.
    """
    with ExitStack() as stack:
        if isinstance(at, RunDirectory):
            stack.enter_context(locked(at.path))
        else:
            check_root(at)

        def directory(name: str) -> RunDirectory:
            if isinstance(at, RunDirectory):
                return at
            made = new_run(at, name)
            stack.enter_context(locked(made.path))
            return made

        yield directory


def existing_run(path: Path) -> RunDirectory:
    """A run directory that is there; what only its owner may read stays so. Raises BadInput where the folder is none."""
    path = expanded(path)
    if not (path / "experiment.yaml").is_file():
        raise BadInput(f"{path}: not a run directory, it has no experiment.yaml")
    if not path.stat().st_mode & 0o077:
        keep_private(path)
    return RunDirectory(path)


def keep_private(run: Path) -> None:
    """Let only the owner read a run, now and while this process goes on: a server's answers to a key are nobody else's."""
    os.umask(0o077)
    for path in (run, *run.rglob("*")):
        if not path.is_symlink():
            with suppress(OSError):  # a disk that knows no owners, or a file that is gone
                path.chmod(0o700 if path.is_dir() else 0o600)
