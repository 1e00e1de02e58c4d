"""The examples of a cluster, by the parsers of what they are written for.

Scripts run with `ssh`, `kubectl` and `dyno` that write down their arguments; what `dyno` is given
goes through its own parser.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from dyno.experiment.loading import load_experiment
from tests.dyno import kubernetes_schema
from tests.dyno.command_lines import parse
from tests.test_papers import ROOT

CLUSTER = ROOT / "examples" / "cluster"
SCRIPTS = sorted(CLUSTER.rglob("*.sh"))
EXPERIMENTS = sorted(CLUSTER.glob("*.yaml"))
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for file in sorted(CLUSTER.glob("kubernetes/*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
START = "2026-12-01T10:00:00Z"
LOAD = ("--url", "http://s:8000/v1", "--model", "m", "--rate", "40")
# Options of sbatch, and what their values look like; None for one without a value.
SBATCH = {
    "job-name": r"[\w-]+",
    "array": r"1-\d+",  # shares count from 1
    "nodes": r"1",
    "time": r"\d\d:\d\d:\d\d",
    "output": r"[\w%.-]+",
    "exclusive": None,
}

# They write their words down, in one piece since several run at once. What dyno would write to
# --out is there afterwards.
PROGRAMS = {
    "dyno": """
printf '%s\\n' "$(printf dyno; printf '\\037%s' "$@")" >>"$CALLS"
for word; do [ "$before" = --out ] && mkdir -p "$word"; before=$word; done
exit 0
""",
    "kubectl": """
printf '%s\\n' "$(printf kubectl; printf '\\037%s' "$@")" >>"$CALLS"
case "$*" in "get job "*) echo "SuccessCriteriaMet Complete" ;; esac
""",
    "ssh": """
[ "$1" = -n ] && shift
[ "$1" = gone ] && exit 255
mkdir -p "$HOSTS/$1" && cd "$HOSTS/$1" && exec sh -c "$2"
""",
}


class Recorded:
    """Runs scripts in a folder, and keeps the words of the programs that they start."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._calls = folder, folder / "calls"
        programs = folder / "bin"
        programs.mkdir()
        for name, text in PROGRAMS.items():
            (programs / name).write_text(f"#!/bin/sh{text}")
            (programs / name).chmod(0o755)
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "CALLS": str(self._calls),
            "HOSTS": str(folder / "hosts"),
        }

    def run(self, *command: str | Path, **environment: str) -> str:
        """Runs a command to its end, and returns what it complained of."""
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment | environment,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    def calls(self, program: str) -> list[list[str]]:
        """The words of each call of the program since the last time somebody asked."""
        lines = self._calls.read_text(encoding="utf-8").splitlines()
        self._calls.unlink()
        return [words for name, *words in (line.split("\x1f") for line in lines) if name == program]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def check_shares(loads: list[list[str]], shares: list[str]) -> None:
    """The loads differ in their shares alone, and dyno takes each of them."""
    assert sorted(option(words, "--share") for words in loads) == shares
    assert len({" ".join(words).replace(option(words, "--share"), "") for words in loads}) == 1
    for words in loads:
        parse(words)


def is_in_the_future(start: str) -> bool:
    return datetime.fromisoformat(start) > datetime.now(UTC)


def test_ssh_gives_each_host_a_share_and_merges_their_parts(recorded: Recorded) -> None:
    recorded.run(CLUSTER / "ssh.sh", "a", "b", "c", "--", *LOAD, "--prompt", "Say 'hello'")
    *loads, merge = recorded.calls("dyno")
    check_shares(loads, ["1/3", "2/3", "3/3"])
    assert option(loads[0], "--prompt") == "Say 'hello'"
    assert is_in_the_future(option(loads[0], "--start-at"))
    parse(merge)
    assert merge[:-1] == ["merge", "--partial"]
    assert (recorded.folder / merge[-1]).is_dir()
    assert merge[-1] == option(loads[0], "--out")


def test_ssh_goes_on_without_a_host_that_is_gone(recorded: Recorded) -> None:
    complaints = recorded.run(CLUSTER / "ssh.sh", "a", "gone", "--", *LOAD)
    assert "gone: dyno ended with 255" in complaints
    assert "gone: its part could not be fetched" in complaints
    load, merge = recorded.calls("dyno")
    assert option(load, "--share") == "1/2"
    assert merge[0] == "merge"


@pytest.mark.parametrize("words", [(), ("a", "b"), ("--", *LOAD)])
def test_ssh_without_hosts_or_options_says_what_to_write(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    done = subprocess.run(
        [CLUSTER / "ssh.sh", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "ssh.sh: write HOST... -- and the options of dyno load\n"


@pytest.mark.slow
def test_hosts_that_ssh_reaches_send_one_load(url: str, recorded: Recorded) -> None:
    """With dyno itself, on two hosts that are folders here. A third is gone."""
    (recorded.folder / "bin" / "dyno").write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m dyno.cli "$@"\n'
    )
    load = ("--url", url, "--model", "emulated", "--prompt", "Hi", "--rate", "40", "--warmup", "0s")
    blocks = ("--duration", "4s", "--blocks", "2", "--gap", "2s")
    complaints = recorded.run(CLUSTER / "ssh.sh", "a", "b", "gone", "--", *load, *blocks, LEAD="20")
    assert complaints.count("gone: ") == 2
    (run,) = (recorded.folder / "runs").iterdir()
    for number in (1, 2):
        (journal,) = run.glob(f"load/url/*/block-0{number}.jsonl")
        header, *records, _ = map(json.loads, journal.read_text(encoding="utf-8").splitlines())
        assert header["machines"] == 3
        assert {record["id"] % 3 for record in records} == {0, 1}
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    ((stage,),) = (variant["stages"] for variant in summary["variants"])
    assert stage["validity"]["level"] == "INVALID"


def test_a_slurm_task_sends_its_share(recorded: Recorded) -> None:
    array = {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_JOB_ID": "7"}
    exported = {"URL": "http://s:8000/v1", "MODEL": "m", "START_AT": START}
    for task in "1234":
        recorded.run(CLUSTER / "slurm.sh", SLURM_ARRAY_TASK_ID=task, **array, **exported)
    calls = recorded.calls("dyno")
    assert calls[::2] == [["calibrate"]] * 4
    check_shares(calls[1::2], ["1/4", "2/4", "3/4", "4/4"])
    assert (option(calls[1], "--start-at"), option(calls[1], "--out")) == (START, "tunedyno-7")
    (merge,) = re.findall(r'--wrap "dyno (.*)"', (CLUSTER / "slurm.sh").read_text(encoding="utf-8"))
    words = merge.replace("$job", "7").split()
    parse(words)
    assert words == ["merge", "--partial", "tunedyno-7"]


def test_slurm_reads_every_directive() -> None:
    """sbatch reads them up to the first command."""
    lines = (CLUSTER / "slurm.sh").read_text(encoding="utf-8").splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [line for line in lines if "#SBATCH" in line]
    assert directives == [line for line in lines[:first_command] if line.startswith("#SBATCH --")]
    options = dict((line[10:] + "=").split("=")[:2] for line in directives)
    assert options.keys() == SBATCH.keys()
    for name, value in options.items():
        assert re.fullmatch(SBATCH[name] or "", value), name


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_kubernetes_has_the_fields_of_a_manifest(manifest: dict[str, Any]) -> None:
    jsonschema.validate(manifest, kubernetes_schema.MANIFESTS[manifest["kind"]])


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_kubernetes_own_schema_takes_a_manifest(manifest: dict[str, Any]) -> None:
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="pip install kubernetes-validate (72 MB) has the schema"
    )
    kubernetes.validate(manifest, "1.33", strict=True)


@pytest.mark.parametrize(
    "change", [{"completionIndex": 4}, {"completions": "4"}, {"completionMode": "indexed"}]
)
def test_a_manifest_that_kubernetes_refuses_is_seen(change: dict[str, object]) -> None:
    job = of_kind("Job")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            job | {"spec": job["spec"] | change}, kubernetes_schema.MANIFESTS["Job"]
        )


def of_kind(kind: str) -> dict[str, Any]:
    (manifest,) = (manifest for manifest in MANIFESTS if manifest["kind"] == kind)
    return manifest


def pod_of(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The specification of a manifest's pod, and its one container."""
    pod = of_kind(kind)["spec"] if kind == "Pod" else of_kind(kind)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def test_kubernetes_runs_every_share_once_and_merges_them(recorded: Recorded) -> None:
    recorded.run(CLUSTER / "kubernetes" / "run.sh", "http://s:8000/v1", "m")
    calls = recorded.calls("kubectl")
    _, _, config, *literals = calls[0]
    values = dict(word.removeprefix("--from-literal=").split("=", 1) for word in literals)
    assert is_in_the_future(values["START_AT"])

    spec, (_, container) = of_kind("Job")["spec"], pod_of("Job")
    assert spec["parallelism"] == spec["completions"]
    assert container["envFrom"] == [{"configMapRef": {"name": config}}]
    values |= {entry["name"]: entry["value"] for entry in container["env"]}
    for index in range(spec["completions"]):
        script = container["args"][0].replace("/parts/", f"{recorded.folder}/parts/")
        recorded.run(*container["command"], script, JOB_COMPLETION_INDEX=str(index), **values)
    loads = [words for words in recorded.calls("dyno") if words != ["calibrate"]]
    check_shares(loads, [f"{k}/{len(loads)}" for k in range(1, spec["completions"] + 1)])
    assert option(loads[0], "--start-at") == values["START_AT"]

    (merge,) = (words[words.index("--") + 1 :] for words in calls if words[0] == "exec")
    assert merge[0] == "dyno"
    parse(merge[1:])
    where = pod_of("Pod")[1]["workingDir"]
    assert f"{recorded.folder}{where}/{merge[3]}" == option(loads[0], "--out")
    (copied,) = (words[1] for words in calls if words[0] == "cp")
    assert copied.partition(":")[2] == f"{where}/{option(merge, '--out')}"


def test_what_the_manifests_and_their_script_name_is_there() -> None:
    claim = of_kind("PersistentVolumeClaim")["metadata"]["name"]
    steps = DockerfileParser(str(ROOT)).structure
    (user,) = (step["value"] for step in steps if step["instruction"] == "USER")
    for kind in ("Job", "Pod"):
        pod, container = pod_of(kind)
        assert container["image"] == f"tunedyno:{metadata.version('tunedyno')}"
        assert [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]] == [
            claim
        ]
        assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in container["volumeMounts"]}
        assert str(pod["securityContext"]["runAsUser"]) == user
    script = (CLUSTER / "kubernetes" / "run.sh").read_text(encoding="utf-8")
    assert f"pod/{of_kind('Pod')['metadata']['name']} " in script
    assert f"get job {of_kind('Job')['metadata']['name']} " in script


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.name)
def test_dyno_takes_an_experiment(file: Path) -> None:
    """And each command that its head shows, if it is dyno's."""
    experiment = load_experiment(file)
    assert experiment.variants
    for words in re.findall(r"^#   dyno (.*)$", file.read_text(encoding="utf-8"), re.M):
        parse(words.split())
        assert ROOT / words.split()[-1] == file


@pytest.mark.slow  # it imports half of Ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_takes_its_commands() -> None:
    """By Ray's own parser, in the page and in the example."""
    from ray.scripts.scripts import start

    for file in (ROOT / "docs" / "cluster.md", *EXPERIMENTS):
        text = file.read_text(encoding="utf-8")
        commands = re.findall(r"^(?:\$|#  ) ray start (.*)$", text, re.M)
        assert len(commands) == 2
        for command in commands:
            start.make_context("start", shlex.split(command))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_takes_a_script(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent)
    assert shellcheck, "install requirements/dev.lock"
    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def stages() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The instructions of the Dockerfile's two stages."""
    steps = [s for s in DockerfileParser(str(ROOT)).structure if s["instruction"] != "COMMENT"]
    first, second = (i for i, step in enumerate(steps) if step["instruction"] == "FROM")
    return steps[first:second], steps[second:]


def test_the_image_is_pinned_and_runs_without_a_compiler_as_an_ordinary_user() -> None:
    build, final = stages()
    for stage in (build, final):
        assert re.match(r"python:3\.\d+-slim-[a-z]+\b", stage[0]["value"])
    assert any("gcc" in step["value"] for step in build)
    assert [step["value"] for step in final if "apt-get" in step["value"]] == []
    (user,) = (step["value"] for step in final if step["instruction"] == "USER")
    assert int(user) >= 1000


def test_the_image_is_built_of_all_that_a_wheel_needs() -> None:
    """And of nothing else: .dockerignore keeps just what is copied."""
    copies = [step["value"].split() for step in stages()[0] if step["instruction"] == "COPY"]
    sources = {source for *some, _ in copies for source in some}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert sources == {line[1:] for line in ignored if line.startswith("!")}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, wheel = pyproject["project"], pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], wheel["hooks"]["custom"]["path"]}
    assert needed | {"pyproject.toml", project["readme"], *project["license-files"]} <= sources
