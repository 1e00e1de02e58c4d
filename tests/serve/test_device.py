from __future__ import annotations

from pathlib import Path

import pytest

from serve.config import ServeConfig
from serve.device import device_for, free_in_container

GB = 10**9


@pytest.mark.parametrize(
    ("folder", "limit", "used", "cache"),
    [
        (".", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_a_containers_limit_counts_with_its_file_cache_as_free(
    tmp_path: Path, folder: str, limit: str, used: str, cache: str
):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / limit).write_text(f"{10 * GB}\n")
    (tmp_path / folder / used).write_text(f"{9 * GB}\n")
    (tmp_path / folder / "memory.stat").write_text(f"anon {2 * GB}\n{cache} {6 * GB}\n")
    assert free_in_container(tmp_path) == 7 * GB


def test_no_limit_is_none(tmp_path: Path):
    assert free_in_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    assert free_in_container(tmp_path) is None


def test_the_section_decides_before_the_machine():
    device = device_for(ServeConfig.model_validate({"device": "cuda", "memory": "80GB"}))
    assert (device.kind, device.memory_bytes, device.starts_together) == ("cuda", 80 * GB, 1)
    assert (
        device_for(ServeConfig.model_validate({"device": "cpu", "memory": "3GB"})).memory_bytes
        == 3 * GB
    )
    assert device_for(ServeConfig()).kind == "cpu"  # what the test environment's vLLM was built for
