"""What a running Ray cluster has, asked in a child process: `python -m serve.ray_cluster`.

A driver of Ray starts threads and logs that a load generator must not have beside it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import BadInput, SystemFailed
from foundation.files.scratch import outer_temporary_folder
from foundation.processes.python_child import run_module
from foundation.ray_token import token_mode

_TIMEOUT_S = 120
_ACCELERATOR = "GPU"
_ADDRESS = "RAY_ADDRESS"


@dataclass(frozen=True)
class RayCluster:
    """The nodes that are alive, and their accelerators: of all, and of the node with the most.

    `address`: where a driver on one of its nodes finds it.
    """

    nodes: int
    accelerators: int
    largest: int
    address: str = ""


def cluster_of(nodes: Iterable[Mapping[str, Any]], address: str = "") -> RayCluster:
    """The cluster in `ray.nodes()`. Nodes that are not alive do not count."""
    alive = [node for node in nodes if node.get("Alive") is True]
    counts = [int((node.get("Resources") or {}).get(_ACCELERATOR, 0)) for node in alive]
    return RayCluster(len(alive), sum(counts), max(counts, default=0), address)


def address_variables(cluster: RayCluster | None, environment: Mapping[str, str]) -> dict[str, str]:
    """What a server needs in its environment to find the cluster that was asked.

    By itself Ray looks in the folder for temporary files, and a server has its own. There it would
    start a second Ray.
    """
    if cluster is None or not cluster.address or environment.get(_ADDRESS):
        return {}
    return {_ADDRESS: cluster.address}


def running_cluster(timeout_s: float = _TIMEOUT_S) -> RayCluster | None:
    """The cluster at RAY_ADDRESS, or that of this machine; None where none runs.

    Raises BadInput without Ray, SystemFailed where the cluster does not answer.
    """
    if importlib.util.find_spec("ray") is None:
        raise BadInput(
            "serve.executor: Ray is not installed; pip install 'tunedyno[ray]', or write mp"
        )
    try:
        child = subprocess.run(
            run_module(__name__),
            env={
                **os.environ,
                **token_mode(os.environ, Path.home()),
                "TMPDIR": str(outer_temporary_folder()),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SystemFailed(
            f"Ray's cluster did not answer in {timeout_s:g} s; check it with ray status"
        ) from None
    if child.returncode:
        raise SystemFailed("Ray's cluster could not be asked", child.stderr[-2000:])
    answer = json.loads(child.stdout.splitlines()[-1])
    return None if answer is None else cluster_of(answer["nodes"], answer["address"])


def _answer() -> dict[str, Any] | None:
    """The nodes and the address of the cluster."""
    import ray

    with suppress(ConnectionError):
        context = ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
        nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
        # Through ray:// there is none.
        about = getattr(context, "address_info", {})
        return {"nodes": nodes(), "address": about.get("gcs_address", "")}
    return None


if __name__ == "__main__":
    print(json.dumps(_answer()))
