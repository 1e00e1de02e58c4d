"""The installed vLLM's classes have the shape that the engine record reads."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from foundation.installed import source
from serve.vllm import engine_record
from serve.vllm.engine_record import PLUGIN


def names_in(file: str, name: str) -> set[str]:
    """The fields of a class of vLLM: annotated ones, and those that `__init__` assigns."""
    tree = source("vllm", file)
    assert tree is not None
    body = next(c for c in ast.walk(tree) if isinstance(c, ast.ClassDef) and c.name == name)
    targets = [n.target for n in ast.walk(body) if isinstance(n, ast.AnnAssign)]
    targets += [t for n in ast.walk(body) if isinstance(n, ast.Assign) for t in n.targets]
    return {t.id if isinstance(t, ast.Name) else t.attr for t in targets
            if isinstance(t, ast.Name | ast.Attribute)}  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "file", "theirs"),
    [
        ("FinishedRequest", "v1/metrics/stats.py", "FinishedRequestStats"),
        ("IterationDetails", "v1/metrics/stats.py", "SchedulerIterationDetails"),
        ("SchedulerStats", "v1/metrics/stats.py", "SchedulerStats"),
        ("IterationStats", "v1/metrics/stats.py", "IterationStats"),
        ("SchedulerConfig", "config/scheduler.py", "SchedulerConfig"),
        ("ParallelConfig", "config/parallel.py", "ParallelConfig"),
        ("VllmConfig", "config/vllm.py", "VllmConfig"),
    ],
)
def test_the_installed_vllms_classes_have_what_the_record_reads(ours: str, file: str, theirs: str):
    shape = getattr(engine_record, ours)
    names = {*shape.__annotations__, *(n for n, v in vars(shape).items() if type(v) is property)}
    assert names and names <= names_in(file, theirs)


def test_the_plugin_is_an_entry_point_and_vllm_has_its_base() -> None:
    root = Path(engine_record.__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    plugins = project["entry-points"]["vllm.stat_logger_plugins"]
    assert plugins == {PLUGIN: "serve.vllm.stat_logger:StatLogger"}
    loggers = source("vllm", "v1/metrics/loggers.py")
    assert loggers is not None
    names = {node.name for node in ast.walk(loggers) if hasattr(node, "name")}
    assert {"AggregateStatLoggerBase", "_log_iteration_details"} <= names


@pytest.mark.parametrize(
    ("file", "theirs", "limits"),
    [
        ("config/scheduler.py", "SchedulerConfig",
         {"max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill"}),
        ("config/cache.py", "CacheConfig",
         {"num_gpu_blocks", "block_size", "enable_prefix_caching"}),
        ("config/lora.py", "LoRAConfig", {"max_loras"}),
        ("config/vllm.py", "VllmConfig", {"scheduler_config", "cache_config", "lora_config"}),
    ],
)  # fmt: skip
def test_the_installed_vllm_has_the_limits(file: str, theirs: str, limits: set[str]):
    assert limits <= names_in(file, theirs)
