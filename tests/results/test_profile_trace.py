"""Reading traces: what is read, and one plain sentence for what can't be."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from foundation.errors import BadInput
from results.profile import trace
from results.profile.trace import read_trace
from tests.results.profiled import TWO_STEPS, event, step, written


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_events_are_read_with_their_times_and_kinds(tmp_path: Path, name: str) -> None:
    kernel = event("gemm_kernel", 30, 5, "kernel", 9)
    read = read_trace(written(tmp_path, *TWO_STEPS, kernel, name=name))
    assert [e.name for e in read.host][:3] == [str(e["name"]) for e in TWO_STEPS[1:4]]
    assert [(e.name, e.thread, e.start, e.end) for e in read.device] == [
        ("gemm_kernel", "7/9", 30.0, 35.0)
    ]
    assert (read.start, read.end) == (0.0, 300.0)


def test_pieces_of_any_size_give_the_same_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, *TWO_STEPS)
    whole = read_trace(file)
    for size in (7, 64, 333):
        monkeypatch.setattr(trace, "_PIECE", size)
        assert read_trace(file) == whole


def test_a_trace_above_the_limit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = written(tmp_path, *TWO_STEPS)
    with pytest.raises(BadInput, match=r"larger than .* MB of JSON; profile fewer steps"):
        read_trace(file, limit=1000)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    packed = written(tmp_path, *TWO_STEPS)
    text = gzip.decompress(packed.read_bytes())
    cut, half = tmp_path / "cut.json.gz", tmp_path / "half.json"
    cut.write_bytes(packed.read_bytes()[:-40])
    half.write_bytes(text[: len(text) // 2])
    for file in (cut, half):
        with pytest.raises(BadInput, match="not a whole trace of torch's profiler"):
            read_trace(file)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"traceEvents": [1, 2]}', '{"traceEvents": [{"ph": "X", "cat": "cpu_op"}]}', "\0"],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "t.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="not a whole trace"):
        read_trace(file)


@pytest.mark.parametrize("duration", [-1.0, float("nan"), float("inf"), "5", None])
def test_a_duration_that_is_none_is_refused(tmp_path: Path, duration: object) -> None:
    broken = {**event("aten::to", 5, 1), "dur": duration}
    with pytest.raises(BadInput, match="not a whole trace"):
        read_trace(written(tmp_path, step(0, 10), broken))


def test_a_trace_without_operators_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no operator"):
        read_trace(written(tmp_path, event("PyTorch Profiler (0)", 0, 300, "Trace")))
