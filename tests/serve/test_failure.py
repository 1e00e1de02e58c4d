"""Causes and last lines, from the logs of vLLM 0.32 servers that really died (shortened; paths changed)."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.failure import LAST_LINES, LINE_LENGTH, explain, last_lines

LOGS = sorted((Path(__file__).parent / "logs").glob("*.log"))


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_the_cause_of_a_real_death_is_named(log: Path):
    assert explain(log.read_text(), 1).kind == log.stem.split("-")[0]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB",
            "out_of_memory",
        ),
        (
            "ValueError: Free memory on device cuda:0 (9.1/79.2 GiB) on startup is less than desired GPU memory utilization "
            "(0.9, 71.3 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
            "out_of_memory",
        ),
        (
            "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89.",
            "unsupported_quantization",
        ),
        (
            "RuntimeError: Quantization scheme is not supported for the current GPU. Min capability: 75.",
            "unsupported_quantization",
        ),
        ("ValueError: Failed to find a kernel that can implement the WNA16 linear layer. Reasons:", "unsupported_quantization"),
        ("ValueError: LoRA rank 64 is greater than max_lora_rank 16.", "unsupported_adapter"),
        ("ValueError: vLLM does not yet support DoRA.", "unsupported_adapter"),
        ("ValueError: While loading x, expected target modules in {'qkv_proj'} but received ['lm_head'].", "unsupported_adapter"),
    ],
)
def test_messages_of_paths_that_need_an_accelerator_or_a_bad_adapter(line: str, kind: str):
    """Wording from vLLM's source: these can't be provoked here, or `check` refuses the input first."""
    assert explain(line, 1).kind == kind


def test_an_unknown_cause_quotes_the_last_exception():
    log = "ValueError: first\n(EngineCore pid=7) ERROR 11-21 22:44:45 [core.py:1510] RuntimeError: the wheels came off\nbye\n"
    assert explain(log, 1).sentence == "RuntimeError: the wheels came off"


def test_a_silent_death_gives_the_exit_code():
    assert "exit code 7" in explain("hello\n", 7).sentence


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_last_lines_are_few_and_hold_no_chatter(log: Path):
    lines = last_lines(log.read_text()).splitlines()
    assert 0 < len(lines) <= LAST_LINES
    assert all(line.strip() and len(line) <= LINE_LENGTH for line in lines)
    assert not any('  File "' in line or "nanobind" in line for line in lines)


def test_last_lines_keep_the_error_that_matters():
    killed = next(log for log in LOGS if log.stem == "killed-1")
    assert "Worker proc VllmWorker-0 died unexpectedly" in last_lines(killed.read_text())
