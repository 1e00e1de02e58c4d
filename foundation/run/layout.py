"""The paths of a run directory, and how a process makes, opens and locks one."""

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
from foundation.run.part import check_whole_load

EXPERIMENT, ENVIRONMENT, VARIANTS = "experiment.yaml", "environment.json", "variants.json"
PROMPTS = "prompts.jsonl"
RACE = "race.json"
PLAN_FILE, IMPROVE_FILE, FAILURES_FILE = "plan.json", "improve.json", "failures.json"
CALIBRATION_FILE, ARTIFACTS_FILE = "calibration.json", "artifacts.json"
SEARCH, SEARCH_FILE = "search-", "search.json"
"""The beginning of the name of each probe's stage, and the file of a search's outcome."""


@dataclass(frozen=True)
class RunDirectory:
    """The layout of `runs/NAME/`."""

    path: Path

    @property
    def experiment(self) -> Path:
        """The experiment as it was run."""
        return self.path / EXPERIMENT

    @property
    def environment(self) -> Path:
        """Hardware, versions, seeds and settings that differ from the usual."""
        return self.path / ENVIRONMENT

    @property
    def calibration(self) -> Path:
        """The calibration of the load generator on this machine."""
        return self.path / CALIBRATION_FILE

    @property
    def variants(self) -> Path:
        """One `VariantRecord` for each variant."""
        return self.path / VARIANTS

    @property
    def prompts(self) -> Path:
        """One `Prompt` a line."""
        return self.path / PROMPTS

    @property
    def logs(self) -> Path:
        """The folder of servers' and trainers' logs."""
        return self.path / "logs"

    @property
    def telemetry(self) -> Path:
        """The folder of server telemetry, a file a variant."""
        return self.path / "telemetry"

    @property
    def engine(self) -> Path:
        """The folder of engine records, a file a server."""
        return self.path / "engine"

    @property
    def profile(self) -> Path:
        """The folder of the last profile: `profile.json`, and a trace a variant."""
        return self.path / "profile"

    @property
    def search(self) -> Path:
        """What a search showed of each variant."""
        return self.path / SEARCH_FILE

    @property
    def race(self) -> Path:
        """Which variants left a race, when and why."""
        return self.path / RACE

    @property
    def plan(self) -> Path:
        """The capacity plan, and the audits of it."""
        return self.path / PLAN_FILE

    @property
    def failures(self) -> Path:
        """Why the servers of some variants failed, by variant."""
        return self.path / FAILURES_FILE

    @property
    def improve(self) -> Path:
        """The rounds of `dyno improve`, and how they ended."""
        return self.path / IMPROVE_FILE

    @property
    def rounds(self) -> Path:
        """The folder of these rounds, each a run of its own."""
        return self.path / "improve"

    @property
    def traces(self) -> Path:
        """The record of the requests that servers elsewhere sent traces of."""
        return self.engine / "traces.jsonl"

    @staticmethod
    def partial(folder: Path) -> Path:
        """Where a folder is written until it is whole."""
        return folder.with_name(folder.name + ".partial")

    def journal(self, variant: str, stage: str, block: int) -> Path:
        """The journal of one block (from 1)."""
        return self.path / "load" / variant / stage / f"block-{block:02d}.jsonl"

    def model_load(self, variant: str, number: int) -> Path:
        """The journal of a load (from 1) that measures the variant's step times.

        It lies apart from the load that is judged.
        """
        return self.model / variant / f"block-{number:02d}.jsonl"

    @property
    def model(self) -> Path:
        """The folder of the loads that measure step times, a folder a variant."""
        return self.path / "model"

    @property
    def models(self) -> Path:
        """The models of the variants' engines."""
        return self.path / "model.json"

    def warm_up(self, variant: str) -> Path:
        """The journal of a variant's warm-up, before anything counted."""
        return self.logs / f"warm-up-{variant}.jsonl"

    def check_there(self) -> None:
        """Raises SystemFailed where the folder was moved or removed during the run."""
        if not self.experiment.exists():
            raise SystemFailed(f"{self.path}: was moved or removed while the run went on")

    def lone_requests(self, variant: str) -> Path:
        """The journal of a variant's requests one at a time, before its search."""
        return self.logs / f"alone-{variant}.jsonl"

    @property
    def rates(self) -> Path:
        """The relative rates of this run, as measured."""
        return self.path / "rates.json"

    def closed_loop(self, variant: str, concurrency: int) -> Path:
        """The journal of the short closed loop that measures a relative rate."""
        return self.logs / f"rate-{variant}-{concurrency}-in-flight.jsonl"


def round_folder(number: int) -> str:
    """The folder of a round (from 1) of `dyno improve`, in the folder of the run."""
    return f"improve/round-{number}"


def search_stage(number: int) -> str:
    """The stage of a search's probe (from 1)."""
    return f"{SEARCH}{number:02d}"


def is_search_stage(name: str) -> bool:
    """Whether a stage's name is a `search_stage`'s."""
    number = name.removeprefix(SEARCH)
    return number.isdecimal() and name == search_stage(int(number))


def check_root(root: Path) -> None:
    """Raises BadInput where no run directory can be made in `root`.

    It runs before anything slow, and makes no folder.
    """
    root = expanded(root)
    existing = next(
        folder for folder in (root, *root.absolute().parents) if os.path.lexists(folder)
    )
    if not existing.is_dir():
        raise BadInput(f"{existing}: not a folder; name another with --out")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise BadInput(f"{existing}: can't be written; name another folder with --out")


def new_run(root: Path, name: str) -> RunDirectory:
    """Makes `root/name`, or `root/name-2`, ... where that is taken. No other process gets the same
    one.
    """
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
    """A run directory locked to this process: the existing run `at`, or a new one in the folder
    `at`.

    The caller gives the name of a new run. An existing run is locked at once, a new one when it is
    made. Raises BadInput where another process holds it, or where none can be made.
    """
    with ExitStack() as stack:
        if isinstance(at, RunDirectory):
            stack.enter_context(locked(at.path))
        else:
            check_root(at)

        def directory(name: str) -> RunDirectory:
            if isinstance(at, RunDirectory):
                return at
            new = new_run(at, name)
            stack.enter_context(locked(new.path))
            return new

        yield directory


def existing_run(path: Path) -> RunDirectory:
    """The run directory at `path`. Raises BadInput where that is no run, or a part of one.

    If only its owner may read it, new files stay private too.
    """
    path = expanded(path)
    if not (path / EXPERIMENT).is_file():
        raise BadInput(f"{path}: not a run directory, it has no {EXPERIMENT}")
    check_whole_load(path)
    if not path.stat().st_mode & 0o077:
        keep_private(path)
    return RunDirectory(path)


def keep_private(run: Path) -> None:
    """Lets only the owner read a run, now and while this process goes on.

    A server's answers to somebody's key are nobody else's.
    """
    os.umask(0o077)
    for path in (run, *run.rglob("*")):
        if not path.is_symlink():
            with suppress(OSError):  # a disk that knows no owners, or a file that is gone
                path.chmod(0o700 if path.is_dir() else 0o600)
