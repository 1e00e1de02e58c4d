"""Load generators that are programs on PATH in their own environments: arguments and records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring_path.tool import Load, Tool
from loadgen.transport.clocks import offset_ns


@dataclass(frozen=True)
class GuideLLM(Tool):
    """Its stamps are `time.time`. It is told not to request usage in every event."""

    program: str
    name: str = "guidellm"
    note: str = "only the first and the last event of a stream are on its record"

    def command(self, url: str, load: Load, out: Path) -> list[str]:
        prompts = load.write_prompts(out.with_suffix(".prompts.jsonl"), "prompt")
        backend = {
            **{
                "kind": "openai_http",
                "target": url,
                "model": "emulated",
                "validate_backend": False,
            },
            **{"request_format": "/v1/completions", "max_tokens": load.tokens},
            "extras": {
                "body": {"stream_options": {"include_usage": True, "continuous_usage_stats": False}}
            },
        }
        spec = {
            "backend": backend,
            "profile": {"kind": "concurrent", "streams": [load.streams]},
            "constraints": [{"kind": "max_requests", "count": load.streams}],
            "data": [{"kind": "json_file", "path": str(prompts)}],
            "outputs": [{"kind": "json", "path": str(out)}],
        }
        scenario = out.with_suffix(".scenario.json")
        scenario.write_text(json.dumps({"spec": spec}))
        one_worker = "GUIDELLM__MAX_WORKER_PROCESSES=1"
        return [
            "env",
            one_worker,
            self.program,
            "run",
            "--config",
            str(scenario),
            "--disable-console-interactive",
        ]

    def arrivals(self, load: Load, out: Path) -> dict[str, NDArray[np.float64]]:
        (benchmark,) = json.loads(out.read_text())["benchmarks"]
        offset, arrivals = offset_ns(), {}
        for request in benchmark["requests"]["successful"]:
            times, stamps = request["info"]["timings"], np.full(load.tokens, np.nan)
            stamps[[0, -1]] = times["first_token_iteration"], times["last_token_iteration"]
            arrivals[json.loads(request["request_args"])["body"]["prompt"]] = stamps * 1e9 + offset
        return arrivals


@dataclass(frozen=True)
class AIPerf(Tool):
    """Its stamps are `time.perf_counter_ns` (CLOCK_MONOTONIC on Linux), one for each event.

    It loads a tokenizer even when it uses the server's counts. A local one without words keeps it
    off the hub.
    """

    program: str
    name: str = "aiperf"

    def command(self, url: str, load: Load, out: Path) -> list[str]:
        prompts = load.write_prompts(out.with_suffix(".prompts.jsonl"), "text")
        tokenizer = out.with_suffix(".tokenizer")
        tokenizer.mkdir()
        words = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
        (tokenizer / "tokenizer.json").write_text(
            json.dumps({"version": "1.0", "added_tokens": [], "model": words})
        )
        (tokenizer / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
        )
        return [
            # Told to be offline, it takes a tokenizer from the hub's cache only, never from a path.
            *("env", "-u", "HF_HUB_OFFLINE", "-u", "TRANSFORMERS_OFFLINE"),
            *(
                self.program,
                "profile",
                "--url",
                url,
                "--model",
                "emulated",
                "--endpoint-type",
                "completions",
                "--streaming",
            ),
            *("--input-file", str(prompts), "--custom-dataset-type", "single_turn"),
            *("--extra-inputs", json.dumps({"max_tokens": load.tokens})),
            *("--use-server-token-count", "--tokenizer", str(tokenizer)),
            *("--concurrency", str(load.streams), "--request-count", str(load.streams)),
            *(
                "--workers-max",
                "1",
                "--record-processors",
                "1",
                "--ui",
                "none",
                "--no-gpu-telemetry",
                "--no-server-metrics",
            ),
            *("--export-level", "raw", "--output-artifact-dir", str(out.parent)),
        ]

    def arrivals(self, load: Load, out: Path) -> dict[str, NDArray[np.float64]]:
        records = map(
            json.loads, (out.parent / "profile_export_raw.jsonl").read_text().splitlines()
        )
        return {
            record["payload"]["prompt"]: np.array(
                [event["perf_ns"] for event in record["responses"]], float
            )
            for record in records
            if record.get("error") is None
        }


@dataclass(frozen=True)
class VllmRustBench(Tool):
    """vLLM's bench in Rust. Its record has gaps and starts, counted from an unknown instant.

    It needs a tokenizer to count the prompts' tokens: this one is part of the program.
    """

    program: str
    name: str = "vllm rust bench"
    note: str = "its record has no clock: read so that its promptest event has no error at all"
    own_origin: bool = True

    def command(self, url: str, load: Load, out: Path) -> list[str]:
        prompts = load.write_prompts(out.with_suffix(".prompts.jsonl"), "prompt")
        return [
            *(
                self.program,
                "bench",
                "serve",
                "--backend",
                "vllm",
                "--base-url",
                url.removesuffix("/v1"),
            ),
            *("--model", "emulated", "--tokenizer", "r50k_base", "--disable-tqdm"),
            *(
                "--dataset-name",
                "custom",
                "--dataset-path",
                str(prompts),
                "--disable-shuffle",
                "--skip-chat-template",
            ),
            *("--custom-output-len", str(load.tokens), "--num-prompts", str(load.streams)),
            *("--max-concurrency", str(load.streams)),
            *(
                "--save-result",
                "--save-detailed",
                "--result-dir",
                str(out.parent),
                "--result-filename",
                out.name,
            ),
        ]

    def arrivals(self, load: Load, out: Path) -> dict[str, NDArray[np.float64]]:
        return from_gaps(load, json.loads(out.read_text()))


def from_gaps(load: Load, result: dict[str, list[float]]) -> dict[str, NDArray[np.float64]]:
    """The detailed record of both vLLM benches: start, time to first event and later gaps, in s."""
    return {
        load.prompt(number): (start + ttft + np.cumsum([0.0, *gaps])) * 1e9
        for number, (start, ttft, gaps) in enumerate(
            zip(result["start_times"], result["ttfts"], result["itls"], strict=True)
        )
        if ttft
    }
