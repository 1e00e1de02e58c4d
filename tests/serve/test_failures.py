"""Causes and last lines, from logs of vLLM 0.32 servers that died (shortened; paths changed)."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.vllm.failures import LINE_LENGTH, MOST_LINES, explain, last_words, telling_lines

LOGS = sorted((Path(__file__).parent / "logs").glob("*.log"))


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_the_cause_of_a_real_death_is_named(log: Path):
    assert explain(log.read_text(), 1).kind == log.stem.split("-")[0]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. "
            "GPU 0 has a total capacity of 79 GiB",
            "out_of_memory",
        ),
        (
            "ValueError: Free memory on device cuda:0 (9.1/79.2 GiB) "
            "on startup is less than desired GPU memory utilization "
            "(0.9, 71.3 GiB). Decrease GPU memory utilization or reduce GPU memory used by "
            "other processes.",
            "out_of_memory",
        ),
        (
            "ValueError: The quantization method fp8 is not supported for the current GPU. "
            "Minimum capability: 89.",
            "unsupported_quantization",
        ),
        (
            "RuntimeError: Quantization scheme is not supported for the current GPU. "
            "Min capability: 75.",
            "unsupported_quantization",
        ),
        (
            "ValueError: Failed to find a kernel that can implement the WNA16 linear layer. "
            "Reasons:",
            "unsupported_quantization",
        ),
        ("ValueError: LoRA rank 64 is greater than max_lora_rank 16.", "unsupported_adapter"),
        ("ValueError: vLLM does not yet support DoRA.", "unsupported_adapter"),
        (
            "ValueError: While loading x, expected target modules in {'qkv_proj'} but received "
            "['lm_head'].",
            "unsupported_adapter",
        ),
    ],
)
def test_messages_of_paths_that_need_an_accelerator_or_a_bad_adapter(line: str, kind: str):
    """Wording from vLLM's source: impossible to provoke here, or `check` refuses the input."""
    assert explain(line, 1).kind == kind


def test_an_unknown_cause_quotes_the_last_exception():
    log = (
        "ValueError: first\n(EngineCore pid=7) ERROR 11-21 22:44:45 [core.py:1510] "
        "RuntimeError: the wheels came off\nbye\n"
    )
    assert explain(log, 1).sentence == "RuntimeError: the wheels came off"


def test_a_silent_death_gives_the_exit_code():
    assert "exit code 7" in explain("hello\n", 7).sentence


@pytest.mark.parametrize(("status", "name"), [(137, "SIGKILL"), (-9, "SIGKILL"), (139, "SIGSEGV")])
def test_a_signal_is_named(status: int, name: str):
    cause = explain("(APIServer pid=7) INFO 11-21 22:44:45 [a.py:1] all is well\n", status)
    assert cause.kind == "killed" and name in cause.sentence


# What a person needs of each log, by its name: the error, as the log has it.
ESSENTIAL = {
    "killed-1": "Worker proc VllmWorker-0 died unexpectedly",
    "missing_file-1": "RuntimeError: Cannot find any model weights with `/models/nofile`",
    "missing_file-3": "No adapter found for /models/absent",
    "model_len": "max_model_len",
    "other": "api_server.py: error: unrecognized arguments: --made-up-option",
    "out_of_memory-1": "ValueError: Available memory on node 0 (9.85/15.71 GiB)",
    "out_of_memory-2": "ValueError: No available memory for the cache blocks.",
    "port_taken": "OSError: [Errno 98] Address already in use",
    "unsupported_architecture-1": "MadeUp",
    "unsupported_quantization": "Unknown quantization method",
}


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_telling_lines_are_few_and_hold_no_chatter(log: Path):
    lines = telling_lines(log.read_text()).splitlines()
    assert (len(lines) == 0) == (log.stem == "other-healthy")
    assert len(lines) <= MOST_LINES
    assert len(set(lines)) == len(lines)
    assert all(line.strip() and len(line) <= LINE_LENGTH for line in lines)
    assert not any(
        word in line
        for line in lines
        for word in ('  File "', "nanobind", " INFO ", "Loading safetensors")
    )


@pytest.mark.parametrize(("name", "words"), ESSENTIAL.items())
def test_telling_lines_hold_the_error_that_matters(name: str, words: str):
    log = next(log for log in LOGS if log.stem == name)
    assert words in telling_lines(log.read_text())


def test_an_error_among_hundreds_of_lines_of_chatter_is_what_is_shown():
    chatter = "".join(
        f"(APIServer pid=7) INFO 11-21 22:44:{n:02d} [a.py:1] request {n}\n" for n in range(60)
    )
    error = (
        "(EngineCore pid=8) ERROR 11-21 22:44:45 [core.py:9] RuntimeError: the wheels came off\n"
    )
    assert telling_lines(chatter + error + error + chatter) == "RuntimeError: the wheels came off"


def test_an_exception_of_several_lines_is_whole():
    log = (
        'Traceback (most recent call last):\n  File "a.py", line 1\n    x()\nValueError: first\n'
        "  second\n\nbye\n"
    )
    assert telling_lines(log) == "ValueError: first\n  second"


def test_start_up_chatter_is_not_shown_where_there_is_no_error():
    healthy = next(log for log in LOGS if log.stem == "other-healthy").read_text()
    assert telling_lines(healthy) == ""
    assert len(last_words(healthy).splitlines()) == 3, "for a server that hangs while it starts"


def test_what_was_printed_last_is_shown_where_nothing_was_logged():
    started = "loading\n(APIServer pid=7) INFO 11-21 22:44:45 [a.py:1] all is well\n"
    assert telling_lines(started + "one\ntwo\nthree\nfour\n") == "two\nthree\nfour"
