"""The file of telemetry samples: of earlier versions, of earlier sessions, and damaged."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundation.run.records import TelemetrySample
from foundation.run.telemetry import read_samples, write_samples

OLD = Path(__file__).parents[1] / "data" / "run-0.1" / "telemetry" / "int8.parquet"


def sample(at: int) -> TelemetrySample:
    return TelemetrySample(monotonic_ns=at, unix_ns=at, rss_bytes=None, cpu_s=None, running=1)


def test_a_file_of_version_0_1_is_read_and_appended_to(tmp_path: Path):
    table, absent = read_samples(OLD, ("prompt_tokens", "gpu_energy_j"))
    assert absent == {} and table.num_rows == 566
    assert table.column("prompt_tokens").null_count == 0
    assert table.column("gpu_energy_j").null_count == 566
    file = tmp_path / OLD.name
    file.write_bytes(OLD.read_bytes())
    assert write_samples([sample(2**60)], file, {"gpu": "NVML is missing"}) is None
    table, absent = read_samples(file, ("prompt_tokens", "running", "gpu_energy_j"))
    assert table.num_rows == 567 and table.column("prompt_tokens").null_count == 1
    assert table.column("running").to_pylist()[-1] == 1
    assert absent == {"gpu": "NVML is missing"}
    assert [each.name for each in tmp_path.iterdir()] == [OLD.name]


def test_columns_of_a_later_version_stay(tmp_path: Path):
    file = tmp_path / "a.parquet"
    later = {"monotonic_ns": [1], "unix_ns": [1], "rooms_temperature": [20.5]}
    pq.write_table(pa.table(later), file)
    assert write_samples([sample(2)], file) is None
    assert pq.read_table(file)["rooms_temperature"].to_pylist() == [20.5, None]
    assert read_samples(file, ("running",))[0]["running"].to_pylist() == [None, 1]


def test_samples_of_a_resumed_run_follow_the_earlier_ones(tmp_path: Path):
    file = tmp_path / "telemetry" / "a=b.parquet"
    assert write_samples([sample(1)], file) is None
    assert write_samples([sample(2)], file) is None
    assert pq.read_table(file.open("rb"))["monotonic_ns"].to_pylist() == [1, 2]
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "other columns"])
def test_a_damaged_file_is_put_aside_and_named(tmp_path: Path, damage: str):
    file = tmp_path / "a.parquet"
    write_samples([sample(1)], file)
    if damage == "other columns":
        pq.write_table(pa.table({"running": ["many"]}), file)
    else:
        file.write_bytes(
            {"truncated": file.read_bytes()[:-9], "garbage": b"\x00" * 99, "empty": b""}[damage]
        )
    before = file.read_bytes()
    note = write_samples([sample(2)], file)
    assert note is not None and "a.parquet" in note and "\n" not in note
    assert pq.read_table(file)["monotonic_ns"].to_pylist() == [2]
    assert (tmp_path / "a.parquet.damaged").read_bytes() == before
