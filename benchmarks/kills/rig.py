"""A run of `dyno` that is watched, killed in one of its processes, examined, and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from foundation.files.scratch import PREFIX
from foundation.run.journal import Journal, read_journal
from serve.vllm.arguments import server_module

VICTIMS = ("dyno", "supervisor", "API server", "engine")
# How long after a kill what is left may need to go: vLLM is given five seconds to end by itself.
PATIENCE_S = 30.0
_EVERY_S = 2.0
_SHARED = Path("/dev/shm")


@dataclass
class Watched:
    """A `dyno run` in a folder of its own, with a folder of its own for temporary files."""

    folder: Path
    temporary: Path
    environment: Mapping[str, str]
    seen: dict[int, psutil.Process] = field(default_factory=dict)
    ports: set[int] = field(default_factory=set)
    shared: set[Path] = field(default_factory=set)

    def start(self, *arguments: str) -> None:
        with (self.folder / "output.txt").open("a", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dyno.cli", "run", *arguments],
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment, "TMPDIR": str(self.temporary)},
            )
        self.began = time.monotonic()

    def look(self) -> dict[str, list[psutil.Process]]:
        """The run's processes by kind. Remembers each process and its listening ports."""
        by_kind: dict[str, list[psutil.Process]] = {victim: [] for victim in VICTIMS}
        try:
            dyno = psutil.Process(self.process.pid)
            family = [dyno, *dyno.children(recursive=True)]
        except psutil.NoSuchProcess:
            return by_kind
        for process in family:
            try:
                line = " ".join(process.cmdline())
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        self.ports.add(connection.laddr.port)
            except psutil.Error:
                continue
            self.seen.setdefault(process.pid, process)
            self.shared |= shared_memory(process.pid)
            if process is dyno:
                by_kind["dyno"].append(process)
            elif "supervisor.py" in line:
                by_kind["supervisor"].append(process)
            elif server_module() in line:
                by_kind["API server"].append(process)
            elif "resource_tracker" not in line and _is_below(process, by_kind["API server"]):
                by_kind["engine"].append(process)
        return by_kind

    def last_line(self) -> str:
        """What the run said last: what it is doing."""
        return (
            (self.folder / "output.txt")
            .read_text(encoding="utf-8")
            .rstrip()
            .rpartition("\n")[2][:34]
        )

    def wait(self, seconds: float) -> int:
        """The exit code, once it has ended."""
        until = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < until:
            self.look()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_EVERY_S)
        if self.process.poll() is None:
            sys.exit(f"the run did not end in {seconds:g} s: {self.last_line()}")
        return self.process.returncode

    def end(self) -> None:
        """Let nothing of it go on."""
        if self.process.poll() is None:
            self.look()
            self.process.kill()
            self.process.wait()
        for process in filter(_runs, self.seen.values()):
            process.kill()

    def left(self, *, swept_later: bool = False) -> list[str]:
        """Processes, ports and folders that still exist after everything had time to end.

        `swept_later`: ignore the temporary folders, which the next start of a killed `dyno` sweeps.
        """
        until = time.monotonic() + PATIENCE_S
        while (left := self._left(swept_later)) and time.monotonic() < until:
            time.sleep(0.1)
        return left

    def _left(self, swept_later: bool) -> list[str]:
        processes = [
            f"process {p.pid}" for p in self.seen.values() if p.pid != self.process.pid and _runs(p)
        ]
        listening = {
            c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN
        }
        ports = [f"port {port}" for port in sorted(self.ports & listening)]
        shared = [str(file) for file in sorted(self.shared) if file.exists()]
        files = [
            str(file.relative_to(self.temporary)) for file in sorted(self.temporary.rglob("*"))
        ]
        stay = [file for file in files if not (swept_later and file.startswith(PREFIX))]
        return processes + ports + shared + stay


def shared_memory(pid: int) -> set[Path]:
    """The files of shared memory that a process has mapped."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {Path(line.split(maxsplit=5)[5]) for line in lines if f" {_SHARED}/" in line}


def _is_below(process: psutil.Process, above: Sequence[psutil.Process]) -> bool:
    """True for vLLM's engine core and workers: children of the API server, whatever their names."""
    try:
        return not set(above).isdisjoint(process.parents())
    except psutil.NoSuchProcess:
        return False


def _runs(process: psutil.Process) -> bool:
    """A zombie does not: only its new parent has not looked yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def lost_s(run: Path, killed_at: float) -> float | None:
    """Seconds that a block under way lost before the kill (Unix time), or None without one."""
    ends = []
    for file in run.glob("load/*/*/block-*.jsonl"):
        journal = read_journal(file)
        if isinstance(journal, Journal) and journal.end is None:
            requests = journal.requests
            last_ns = max([0, *(int(ns) for ns in requests.done_ns if ns == ns)])
            ends.append(killed_at - (journal.header.origin_unix_ns + last_ns) / 1e9)
    return max(0.0, min(ends)) if ends else None


def outcome(run: Path) -> dict[str, object]:
    """The counts and the verdict of a run, as they are when nothing ever happened to it."""
    summary = msgspec.json.decode((run / "summary.json").read_bytes())
    verdict = msgspec.json.decode((run / "verdict.json").read_bytes())
    blocks = {
        "/".join(file.parts[-3:]): sum(1 for _ in file.open("rb"))
        for file in sorted(run.glob("load/*/*/block-*.jsonl"))
    }
    return {
        "records": {name: lines - 2 for name, lines in blocks.items()},
        "counts": {
            f"{v['variant']}/{s['stage']}": [s["blocks"], s["planned"], s["succeeded"]]
            for v in summary["variants"]
            for s in v["stages"]
        },
        "failed": summary.get("failed", {}),
        "decisions": {v["variant"]: v["decision"] for v in verdict["variants"]},
    }


def differences(ours: Mapping[str, object], reference: Mapping[str, object]) -> list[str]:
    """The entries by which a resumed run differs from an undisturbed one."""
    return [
        f"{key}: {json.dumps(ours[key])} instead of {json.dumps(reference[key])}"
        for key in reference
        if ours[key] != reference[key]
    ]
