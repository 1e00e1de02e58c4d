"""A real vLLM whose worker is an actor of a real Ray cluster: served, loaded and stopped.

vLLM's CPU backend names no resource by which Ray places workers. A plugin of vLLM's own kind, which
this test alone installs, names GPUs. The cluster here is told to have one, and Ray does not look.
All else is what runs with GPUs: dyno, vLLM's executor, Ray.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.test_real_replicas import keys_in, marked

EXPERIMENT = """\
name: on-ray
model: bundled:smollm2-135m-instruct
data: {prompt: "Count from one to ten."}
variants: [{name: base}]
baseline: base
serve: {device: cuda, executor: ray, enforce_eager: true, max_model_len: 512,
        gpu_memory_utilization: 0.2}
workload:
  stages: [{rate: 2, requests: 20, warmup: 1s}]
  blocks: 2
  sampling: {max_tokens: 8}
slo: {latency_p50: 60s}
"""
PLUGIN = {
    "cpu_on_ray/__init__.py": 'def name() -> str:\n    return "cpu_on_ray.platform.CpuOnRay"\n',
    "cpu_on_ray/platform.py": (
        "from vllm.platforms.cpu import CpuPlatform\n\n\n"
        'class CpuOnRay(CpuPlatform):\n    ray_device_key = "GPU"\n'
    ),
    "cpu_on_ray-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: cpu-on-ray\nVersion: 1\n",
    "cpu_on_ray-1.dist-info/entry_points.txt": (
        "[vllm.platform_plugins]\ncpu_on_ray = cpu_on_ray:name\n"
    ),
}
ASK = """\
import json, ray
from ray._private.state import actors
from ray.util import placement_group_table
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
keys = ("ActorClassName", "State", "NumRestarts", "Pid")
past = [{key: actor[key] for key in keys} for actor in actors().values()]
groups = [group["state"] for group in placement_group_table().values()]
free = ray.available_resources().get("GPU", 0)
print(json.dumps({"actors": past, "groups": groups, "gpus": free}))
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Cluster:
    """A cluster that was started as a person would, and the environment in which to find it."""

    environment: Mapping[str, str]
    mark: str

    def asked(self) -> dict[str, Any]:
        """Its actors and placement groups, past ones too, and how many GPUs are free."""
        done = subprocess.run(
            [sys.executable, "-c", ASK],
            env=self.environment, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def workers(self) -> list[str]:
        """vLLM's processes on its nodes."""
        names = [process.name() for process in marked(self.mark)]
        return [name for name in names if "RayWorkerProc" in name or "EngineCore" in name]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("ray")
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    for name, text in PLUGIN.items():
        (tmp_path / "plugin" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plugin" / name).write_text(text, encoding="utf-8")
    mark = uuid.uuid4().hex
    # Ray's sockets need a short path. Without RAY_ADDRESS its clusters are found in this folder.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        paths = (os.environ.get("PYTHONPATH"), str(tmp_path / "plugin"))
        environment = {
            **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "TMPDIR": folder,
            "RAY_AUTH_MODE": "disabled",
        }
        ray = subprocess.Popen(
            [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port=0",
             "--num-gpus=1", "--include-dashboard=false", "--disable-usage-stats",
             "--object-store-memory=100000000"],
            env={**environment, "DYNO_TEST_MARK": mark}, cwd=tmp_path, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline_s = time.monotonic() + 120
            while not (Path(folder) / "ray" / "ray_current_cluster").exists():
                assert ray.poll() is None and time.monotonic() < deadline_s, "Ray does not start"
                time.sleep(0.5)
            yield Cluster(environment, mark)
        finally:
            ray.terminate()
            ray.wait(60)
            for process in marked(mark):
                process.kill()


def test_a_server_on_ray_is_found_loaded_and_stopped(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")
    too_many = EXPERIMENT.replace("executor: ray", "executor: ray, tensor_parallel: 2")
    (tmp_path / "two.yaml").write_text(too_many, encoding="utf-8")
    mark = uuid.uuid4().hex

    def dyno(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dyno.cli", "run", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**cluster.environment, "DYNO_TEST_MARK": mark},
        )  # fmt: skip

    refused = dyno("two.yaml", "--dry-run")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "Ray's cluster has 1" in " ".join((refused.stdout + refused.stderr).split())
    done = dyno("experiment.yaml")
    run = tmp_path / "runs" / "on-ray"
    log = (run / "logs" / "base.log").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert marked(mark) == []
    left = cluster.asked()
    workers = [actor for actor in left["actors"] if actor["ActorClassName"] == "RayWorkerProc"]
    assert [(actor["State"], actor["NumRestarts"]) for actor in workers] == [("DEAD", 0)]
    assert left["groups"] == ["REMOVED"] and left["gpus"] == 1
    assert {actor["State"] for actor in left["actors"]} == {"DEAD"}
    assert cluster.workers() == []
    # The model ran in that actor.
    loaded = re.search(r"RayWorkerProc pid=(\d+)\).* Loading weights took", log)
    assert loaded is not None and int(loaded[1]) == workers[0]["Pid"]
    [verdict] = json.loads((run / "verdict.json").read_text(encoding="utf-8"))["variants"]
    assert verdict["decision"] == "SHIP"
    steps = [line for line in lines_of(run / "engine" / "base.jsonl") if line["kind"] == "step"]
    # Whole steps: while requests run they fill the time.
    pairs = [(ahead, step) for ahead, step in pairwise(steps) if ahead["running"]]
    between_ns = sum(step["ended_ns"] - ahead["ended_ns"] for ahead, step in pairs)
    assert 0.7 < sum(step["elapsed_ns"] for _, step in pairs) / between_ns <= 1.01
    keys = keys_in(run / "engine" / "base.jsonl")
    files = sorted(run.glob("load/base/*/block-*.jsonl"))
    assert len(files) == 2
    for file in files:
        header, *records = lines_of(file)[:-1]
        assert len(records) >= 20 and {record["failure"] for record in records} == {None}
        origin = header["origin_monotonic_ns"]
        assert {f"{origin:016x}{record['id']:016x}" for record in records} <= keys


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
