"""Datasets from the flags of `dyno load` to the summary; the emulator counts words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dyno.commands.load import load_experiment_for
from dyno.experiment.from_flags.load_shape import LoadShape
from dyno.experiment.from_flags.prompt_source import PromptSource
from dyno.experiment.from_flags.target import Target
from dyno.experiment.loading import load_experiment
from dyno.pipeline.prepare import prepare
from dyno.pipeline.prompt_lengths import measured_correction, with_corrected_lengths
from foundation.errors import BadInput
from foundation.progress import Silent
from foundation.run.journal import read_prompts
from loadgen.prompts.exact_length import Correction
from tests.dyno.test_cli import dyno
from tests.tiny_model import write_word_tokenizer


def test_synthetic_prompts_from_the_flags_to_the_report(url: str, tmp_path: Path) -> None:
    """No tokenizer is known of it: a word is taken for a token, which it is to the emulator."""
    common = (
        "load",
        "--url",
        url,
        "--model",
        "m",
        "--concurrency",
        "4",
        "--requests",
        "24",
        "--synthetic",
    )
    lengths = ("--input-tokens", "uniform:40:60", "--output-tokens", "6", "--cache-hit", "50%")
    done = dyno(*common, *lengths, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "load"
    [stage] = json.loads((run / "summary.json").read_text())["variants"][0]["stages"]
    assert stage["succeeded"] == 24 and not [
        note for note in stage["notes"] if "as long as" in note
    ]
    assert 40 <= stage["metrics"]["input_tokens_p50"]["value"] <= 60
    assert stage["metrics"]["intended_cache_hit_share"]["value"] == pytest.approx(0.5, abs=0.01)
    assert stage["metrics"]["output_tokens_p50"]["value"] == 6
    assert "Prefix cache hits intended" in (run / "report.md").read_text()
    text = (run / "experiment.yaml").read_text()
    assert load_experiment(run / "experiment.yaml").workload.cache_salt, text
    again = prepare(load_experiment(run / "experiment.yaml"), run, Silent())
    assert {p.id: p for p in again.prompts} == read_prompts(run)  # what `--resume` asks


@pytest.mark.slow
def test_a_server_with_a_template_of_its_own_is_asked_shorter_prompts(
    url: str, tmp_path: Path
) -> None:
    """The template has 8 tokens that the emulator does not count: marks, names and line ends."""
    write_word_tokenizer(tmp_path / "words")
    common = (
        "load",
        "--url",
        url,
        "--model",
        "m",
        "--rate",
        "40",
        "--requests",
        "20",
        "--synthetic",
    )
    done = dyno(
        *common,
        "--input-tokens",
        "uniform:40:60",
        "--tokenizer",
        str(tmp_path / "words"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "its server counts -8 tokens a prompt" in done.stdout
    run = tmp_path / "runs" / "load"
    wanted = {p.id: p.input_tokens for p in read_prompts(run).values()}
    records = [
        json.loads(line)
        for line in (run / "load/url/rate-40/block-01.jsonl").read_text().splitlines()[1:-1]
    ]
    assert records and all(
        record["input_tokens"] == wanted[record["prompt_id"]] for record in records
    )


@pytest.mark.parametrize(
    ("known", "lengths", "counts", "asked"),
    [
        (True, "uniform:100:400", lambda written: written, None),
        (True, "uniform:100:400", lambda written: written + 5, Correction(5, 1)),
        (True, "100", lambda written: written + 5, Correction(5, 1)),
        (False, "uniform:100:400", lambda written: round(1.5 * written + 12), Correction(12, 1.5)),
    ],
)
def test_how_a_server_counts_is_found_from_its_first_answers(
    known: bool,
    lengths: str,
    counts: Callable[[int], int],
    asked: Correction | None,
    tmp_path: Path,
) -> None:
    prepared = prepare(made(synthetic=True, input_tokens=lengths), tmp_path, Silent())
    prepared = replace(prepared, tokenizer=tmp_path if known else None)
    header = {
        "schema_version": 1, "variant": "url", "stage": "warm-up", "block": 1, "seed": 0,
        "transport": "socket", "clock": "user", "origin_monotonic_ns": 0, "origin_unix_ns": 0,
        "model": "m", "prompt_style": "plain", "api": "chat", "arrivals": "closed",
        "offered_rate": None, "concurrency": 4, "planned": 8, "window_start_ns": 0,
        "window_end_ns": None,
    }  # fmt: skip
    rows = [
        {
            "id": i,
            "prompt_id": p.id,
            "scheduled_ns": i,
            "input_tokens": counts(p.input_tokens or 0),
            "tokens_from": "server",
        }
        for i, p in enumerate(prepared.prompts)
    ]
    journal = tmp_path / "warm-up.jsonl"
    journal.write_text("".join(json.dumps(row) + "\n" for row in [header, *rows]))
    found = measured_correction(prepared, "url", journal)
    if asked is None:
        assert found is None
    else:
        assert found is not None
        assert (found.extra, found.scale) == (
            pytest.approx(asked.extra, abs=1),
            pytest.approx(asked.scale, rel=0.01),
        )
        wanted = [tokens for p in prepared.prompts if (tokens := p.input_tokens)]
        assert all(abs(counts(found.own_count(tokens)) - tokens) <= 1 for tokens in wanted)


def test_only_the_server_that_counts_otherwise_is_asked_other_words(tmp_path: Path) -> None:
    """Without a tokenizer a word counts as a token: a server that counts 5 more gets 5 fewer."""
    prepared = prepare(made(synthetic=True, input_tokens="uniform:40:60"), tmp_path, Silent())
    corrected = with_corrected_lengths(prepared, {"url": Correction(5, 1)}, Silent())
    before, after = ([p.messages["plain"] for p in each.prompts] for each in (prepared, corrected))
    assert after == before
    words = [len(prompt.messages["url"][0]["content"].split()) for prompt in corrected.prompts]
    assert words == [(prompt.input_tokens or 0) - 5 for prompt in prepared.prompts]
    assert corrected.corrections == {"url": Correction(5, 1)}


def made(
    rate: str | None = "5", think: str | None = None, requests: int | None = 10, **asked: Any
) -> Any:
    load = LoadShape(rates=[rate] if rate else (), requests=requests, think=think)
    return load_experiment_for(
        Target(url="http://h/v1", model="m"), PromptSource(**asked), load, "x"
    )


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "write one of --prompt"),
        ({"prompt": "Q", "synthetic": True}, "write one of --prompt"),
        ({"synthetic": True}, "--synthetic: write --input-tokens"),
        ({"synthetic": True, "input_tokens": "gauss:3"}, "--input-tokens: write 512, uniform"),
        (
            {"synthetic": True, "input_tokens": "64", "output_tokens": "0"},
            "--output-tokens: lengths are 1 or more",
        ),
        (
            {"synthetic": True, "input_tokens": "64", "cache_hit": "half"},
            "--cache-hit: write a share",
        ),
        ({"prompt": "Q", "input_tokens": "64"}, "--input-tokens goes with --synthetic"),
        ({"prompt": "Q", "turns": "3"}, "--turns goes with"),
        ({"prompt": "Q", "ignore": ["lang"]}, "--ignore goes with --data"),
        ({"prompt": "Q", "output_tokens": "uniform:1:9"}, "--output-tokens: write a whole number"),
        ({"prompt": "Q", "think": "1s"}, "think belongs to"),
        ({"prompt": "Q", "rate": None}, "write --rate"),
    ],
)
def test_flags_that_make_no_sense_are_told(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as error:
        made(**asked)
    assert says in str(error.value)


def test_a_trace_is_replayed_at_its_own_times_unless_a_rate_says(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    trace.write_text(
        "".join(f'{{"at": {i}, "input_tokens": {20 + i}, "output_tokens": 2}}\n' for i in range(12))
    )
    [stage] = made(rate=None, trace=trace).workload.stages
    assert stage.trace is not None and stage.trace.file == trace and stage.requests == 10
    assert made(trace=trace).workload.stages[0].rate == 5
    assert made(trace=trace, requests=40).workload.stages[0].requests == 10  # of four blocks
    assert made(rate=None, trace=trace, requests=None).workload.stages[0].requests == 11
    prompts = prepare(made(rate=None, trace=trace), tmp_path, Silent()).prompts
    assert [p.input_tokens for p in prompts] == list(range(20, 30))


EXPERIMENT = """\
name: x
model: m
{data}
variants: [{{name: a, url: http://h/v1, model: m}}]
baseline: a
workload: {{dataset: {dataset}, stages: [{{rate: 1, requests: 4}}]}}
"""


@pytest.mark.parametrize(
    ("data", "dataset", "says"),
    [
        ("", "eval", "data: write eval"),
        ("data: {prompt: Q}", "{trace: a.csv}", "data.prompt: workload.dataset says"),
        ("", "synthetic", "workload.dataset: write eval, {synthetic:"),
        ("", "{synthetic: {input_tokens: 5, output_token: 3}}", "did you mean 'output_tokens'?"),
        ("", "{trace: none.csv}", "none.csv: no such file"),
        ("", "{sharegpt: none.json}", "none.json: no such file"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line(
    tmp_path: Path, data: str, dataset: str, says: str
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(EXPERIMENT.format(data=data, dataset=dataset))
    with pytest.raises(BadInput) as error:
        prepare(load_experiment(file), tmp_path, Silent())
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_salt_is_drawn_for_datasets_and_kept(tmp_path: Path) -> None:
    synthetic = made(synthetic=True, input_tokens="64")
    one, other = synthetic.salted(), synthetic.salted()
    assert one.workload.cache_salt != other.workload.cache_salt
    assert one.salted() == one
    assert made(prompt="Q").salted().workload.cache_salt is None
