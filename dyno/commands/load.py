"""Experiments made from flags, for `dyno load` and `dyno baseline`: the same ring, no file to write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dyno.experiment.request import shown_url
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from foundation.http.endpoint import ADDRESS, read_address
from foundation.path_fields import resolved
from foundation.units import format_seconds, parse_rate, parse_seconds
from loadgen.config import RATE_KINDS, Recording
from loadgen.schedule.traces import arrival_seconds, recorded_seconds

REQUESTS = 500
# So many blocks tell how much a measurement differs from itself: what two runs are compared by.
BLOCKS = 5
# A block holds at least so many waves of a closed loop, arrivals of an open one, and seconds.
WAVES, ARRIVALS, BLOCK_S = 2, 10, 5.0
CONNECT_S = 5.0
# The flag of a field whose name is another.
_FLAGS = {
    "extra": "extra-body",
    "headers": "header",
    "max_tokens": "output-tokens",
    "eval": "data",
    "connect": "timeout",
    "first": "timeout",
    "stall": "timeout",
    "total": "timeout",
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """The API that is asked. `headers` are "Name: value", `extra_body` is a JSON object; `api` None goes by the url."""

    url: str
    model: str
    api: str | None = None
    api_key_env: str | None = None
    headers: Sequence[str] = ()
    extra_body: str | None = None
    ca_file: Path | None = None
    insecure: bool = False

    def variant(self, name: str, extra: Mapping[str, Any]) -> dict[str, Any]:
        """The variant `name`, whose requests hold `extra` too. Raises BadInput."""
        fields = {**extra, **_json_object(self.extra_body)}
        request = {
            "headers": dict(map(_header, self.headers)),
            "extra": fields,
            "ca_file": str(self.ca_file) if self.ca_file else None,
            "insecure": self.insecure,
        }
        given = {key: value for key, value in request.items() if value}
        made: dict[str, Any] = {
            "name": name,
            "url": self.url,
            "model": self.model,
            "api_key_env": self.api_key_env,
        }
        return {**made, "request": given or None}

    def asked_api(self) -> str:
        """The API that is named, or that the url's end names. Raises BadInput for what is no address."""
        if self.url.startswith("${"):
            return self.api or "chat"
        try:
            address = read_address(self.url)
        except ValueError as error:
            raise BadInput(f"--url: {shown_url(self.url)!r}: {error}") from None
        return self.api or address.api or "chat"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `dyno load` asks: exactly one of the first five. The others go with `synthetic`, `turns` with `sharegpt` too,
    `ignore` with `data`.
    """

    prompt: str | None = None
    data: Path | None = None
    ignore: Sequence[str] = ()
    synthetic: bool = False
    sharegpt: Path | None = None
    trace: Path | None = None
    input_tokens: str | None = None
    output_tokens: str = "128"
    cache_hit: str | None = None
    prefixes: int | None = None
    turns: str | None = None
    offset: str | None = None
    length: str | None = None

    def check(self) -> None:
        """Raises BadInput for what does not go together."""
        ways = [
            self.prompt is not None,
            self.data is not None,
            self.synthetic,
            self.sharegpt is not None,
            self.trace is not None,
        ]
        if sum(ways) != 1:
            raise BadInput(
                "write one of --prompt TEXT, --data FILE.jsonl, --synthetic, --sharegpt FILE, --trace FILE"
            )
        if self.synthetic and self.input_tokens is None:
            raise BadInput("--synthetic: write --input-tokens, such as 512 or lognormal:512:0.5")
        given = {
            "--input-tokens": self.input_tokens,
            "--cache-hit": self.cache_hit,
            "--prefixes": self.prefixes,
        }
        for flag, value in given.items() if not self.synthetic else ():
            if value is not None:
                raise BadInput(f"{flag} goes with --synthetic")
        for flag, value in (
            {"--offset": self.offset, "--length": self.length}.items() if self.trace is None else ()
        ):
            if value is not None:
                raise BadInput(f"{flag} goes with --trace")
        if self.ignore and self.data is None:
            raise BadInput("--ignore goes with --data")
        if self.turns is not None and not self.synthetic and self.sharegpt is None:
            raise BadInput("--turns goes with --synthetic or --sharegpt")
        if not self.synthetic and not self.output_tokens.isdigit():
            raise BadInput(
                "--output-tokens: write a whole number; distributions go with --synthetic"
            )

    def data_section(self) -> dict[str, Any]:
        if self.prompt is not None:
            return {"prompt": self.prompt}
        return (
            {"eval": str(self.data), "ignore": list(self.ignore)} if self.data is not None else {}
        )

    def dataset(self) -> dict[str, Any] | None:
        """`workload.dataset`."""
        if self.synthetic:
            more = {"cache_hit": self.cache_hit, "prefixes": self.prefixes, "turns": self.turns}
            given = {key: value for key, value in more.items() if value is not None}
            return {
                "synthetic": {
                    "input_tokens": self.input_tokens,
                    "output_tokens": self.output_tokens,
                    **given,
                }
            }
        if self.sharegpt is not None:
            return {
                "sharegpt": {
                    "file": str(self.sharegpt),
                    **({"turns": self.turns} if self.turns else {}),
                }
            }
        recording = self.recording
        return (
            None
            if recording is None
            else {"trace": recording.model_dump(mode="json", exclude_defaults=True)}
        )

    @property
    def recording(self) -> Recording | None:
        """The part of a trace that is asked."""
        if self.trace is None:
            return None
        offset = _seconds("--offset", self.offset) if self.offset else 0.0
        length = _seconds("--length", self.length) if self.length else None
        if length == 0:
            raise BadInput(f"--length: {self.length} is no part of a recording; write such as 10m")
        return Recording.model_construct(file=self.trace, offset=offset, length=length)


@dataclass(frozen=True, kw_only=True)
class Load:
    """How `dyno load` loads: one stage for each of `rates` or `concurrencies`, or one that replays a trace at `speed`.

    `requests` or `duration` (500 requests where neither is given) are of a whole stage, divided among its blocks.
    """

    rates: Sequence[str] = ()
    concurrencies: Sequence[int] = ()
    requests: int | None = None
    duration: str | None = None
    blocks: int | None = None
    warmup: str | None = None
    think: str | None = None
    speed: float = 1.0
    timeout: str | None = None
    seed: int | None = None
    temperature: float | None = None
    ignore_eos: bool = False
    slo: Sequence[str] = ()
    tokenizer: str | None = None

    def check(self, trace: Recording | None) -> None:
        """Raises BadInput for what does not go together, or measures nothing."""
        _check_counts({"--requests": self.requests, "--blocks": self.blocks})
        _check_counts({"--concurrency": min(self.concurrencies, default=None)})
        if self.rates and self.concurrencies:
            raise BadInput(
                "write --rate (open loop, requests/s) or --concurrency (closed loop), not both"
            )
        if trace is None and not self.rates and not self.concurrencies:
            raise BadInput("write --rate (open loop, requests/s) or --concurrency (closed loop)")
        loads = [_parsed("--rate", parse_rate, rate) for rate in self.rates] or list(
            self.concurrencies
        )
        if twice := [load for load in loads if loads.count(load) > 1]:
            raise BadInput(
                f"--{'rate' if self.rates else 'concurrency'}: {twice[0]:g} is there twice; each load is measured once"
            )
        if self.requests is not None and self.duration is not None:
            raise BadInput("write --requests or --duration, not both")
        if self.blocks and self.requests and self.blocks > self.requests:
            raise BadInput(
                f"--blocks: {self.blocks} blocks need {self.blocks} requests, and --requests says {self.requests}"
            )
        if self.duration is not None and _seconds("--duration", self.duration) == 0:
            raise BadInput(f"--duration: {self.duration} measures nothing; write such as 60s")

    def stages(self, trace: Recording | None) -> list[dict[str, Any]]:
        """`workload.stages`: each with its part of a block, and so many requests more in the first blocks."""
        loads: list[dict[str, Any]] = [{"rate": rate} for rate in self.rates]
        loads += [{"concurrency": concurrency} for concurrency in self.concurrencies]
        if not loads:
            assert trace is not None
            part = trace.model_dump(mode="json", exclude_defaults=True)
            loads = [{"trace": {**part, "speed": self.speed}, "warmup": "0s"}]
        return [
            {**load, **self._size(trace), **({"think": self.think} if self.think else {})}
            for load in loads
        ]

    def _size(self, trace: Recording | None) -> dict[str, Any]:
        blocks = self.block_count(trace)
        replayed = trace is not None and not self.rates and not self.concurrencies
        if replayed:  # each block replays the recording from its beginning
            if self.duration is not None:
                return {"duration": self.duration}
            assert trace is not None
            return {
                "requests": self.requests or min(REQUESTS, _replayable(resolved(trace, Path.cwd())))
            }
        if self.duration is not None:
            return {"duration": format_seconds(_seconds("--duration", self.duration) / blocks)}
        requests, more = divmod(self.requests or REQUESTS, blocks)
        return {"requests": requests, "one_more_in": more}

    def block_count(self, trace: Recording | None) -> int:
        """As many as are asked for, else `BLOCKS`, or fewer where their parts would be too short to measure in."""
        if self.blocks:
            return self.blocks
        if trace is not None and not self.rates and not self.concurrencies:
            return 1
        if self.duration is not None:
            parts = _seconds("--duration", self.duration) // BLOCK_S
        else:
            least = WAVES * max(self.concurrencies) if self.concurrencies else ARRIVALS
            parts = (self.requests or REQUESTS) // least
        return int(min(BLOCKS, max(1, parts)))


def _replayable(recording: Recording) -> int:
    """Arrivals with an end of their window: the last is that end, unless `length` ends it later."""
    times = arrival_seconds(recording)
    if count := len(times) - int(recorded_seconds(recording) <= times[-1]):
        return count
    raise BadInput(
        f"--trace: {recording.file}: one arrival; a replay needs a second one, which ends it"
    )


def plan_in_words(experiment: Experiment) -> str:
    """What is measured, in how many blocks, and what comes on top."""
    workload = experiment.workload
    stage = workload.stages[0]
    blocks = "one block" if workload.blocks == 1 else f"{workload.blocks} blocks"
    if stage.requests is None:
        assert stage.duration is not None
        size = f"{stage.duration * workload.blocks:g} s"
    else:
        size = f"{stage.requests * workload.blocks + stage.one_more_in:,} requests"
    each = "each load" if len(workload.stages) > 1 else "the load"
    warmup = workload.warmup if stage.warmup is None else stage.warmup
    words = [f"{size} of {each} are measured, in {blocks}"]
    words += [f"a warm-up of {warmup:g} s before each block comes on top"] if warmup else []
    words += (
        ["dyno compare needs several blocks (--blocks) to tell two runs apart"]
        if workload.blocks == 1
        else []
    )
    return "; ".join(words)


def load_experiment_for(target: Target, asked: Asked, load: Load, name: str) -> Experiment:
    """One URL under one load or several. A trace without rate and concurrency is replayed at its own times."""
    asked.check()
    load.check(asked.recording)
    api = target.asked_api()
    sampling: dict[str, Any] = {} if asked.synthetic else {"max_tokens": asked.output_tokens}
    sampling |= {"seed": load.seed} if load.seed is not None else {}
    sampling |= {"temperature": load.temperature} if load.temperature is not None else {}
    extra = {"ignore_eos": True} if load.ignore_eos else {}
    return _experiment(
        {
            "name": name,
            "model": target.model,
            "data": asked.data_section(),
            "variants": [target.variant("url", extra)],
            "baseline": "url",
            "workload": {
                "api": api,
                "dataset": asked.dataset() or "eval",
                "tokenizer": load.tokenizer,
                "stages": load.stages(asked.recording),
                "blocks": load.block_count(asked.recording),
                "sampling": sampling,
                **({"seed": load.seed} if load.seed is not None else {}),
                **({"warmup": load.warmup} if load.warmup is not None else {}),
                **_deadlines(load.timeout),
            },
            "slo": dict(map(_objective, load.slo)),
        }
    )


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What `dyno baseline` asks, one request at a time, divided among blocks."""

    prompt: str
    requests: int = 20
    blocks: int | None = None
    output_tokens: int = 128
    temperature: float | None = None
    seed: int | None = None
    timeout: str | None = None


def model_or_target(name: str, *, model: str | None, **flags: Any) -> str | Target:
    """A model to serve, or the API at an address. `flags` are those of `Target`. Raises BadInput."""
    if not re.match(ADDRESS, name) and not name.startswith("${"):
        given = [flag for flag, value in {"model": model, **flags}.items() if value]
        if given:
            raise BadInput(f"--{_FLAGS.get(given[0], given[0]).replace('_', '-')} goes with a URL")
        return name
    if model is None:
        raise BadInput("with a URL, write --model: the name its server knows the model by")
    return Target(url=name, model=model, **flags)


def baseline_experiment(
    model_or_target: str | Target, questions: Questions, name: str
) -> Experiment:
    """One model or URL, asked one thing at a time."""
    _check_counts(
        {
            "--requests": questions.requests,
            "--blocks": questions.blocks,
            "--output-tokens": questions.output_tokens,
        }
    )
    blocks = questions.blocks or min(BLOCKS, questions.requests)
    if blocks > questions.requests:
        raise BadInput(
            f"--blocks: {blocks} blocks need {blocks} requests, and --requests says {questions.requests}"
        )
    requests, more = divmod(questions.requests, blocks)
    sampling: dict[str, Any] = {"max_tokens": questions.output_tokens}
    sampling |= {"seed": questions.seed} if questions.seed is not None else {}
    sampling |= {"temperature": questions.temperature} if questions.temperature is not None else {}
    if isinstance(model_or_target, Target):
        api, model = model_or_target.asked_api(), model_or_target.model
        variant = model_or_target.variant("baseline", {})
    else:
        api, model, variant = "chat", model_or_target, {"name": "baseline"}
    stage = {
        "name": "one-at-a-time",
        "concurrency": 1,
        "requests": requests,
        "one_more_in": more,
        "warmup": "0s",
    }
    return _experiment(
        {
            "name": name,
            "model": model,
            "data": {"prompt": questions.prompt},
            "variants": [variant],
            "baseline": "baseline",
            # The one prompt must be read anew each time, as a user's first question would be.
            "serve": {"engine": {"enable-prefix-caching": False}},
            "workload": {
                "api": api,
                "stages": [stage],
                "blocks": blocks,
                "sampling": sampling,
                **_deadlines(questions.timeout),
            },
        }
    )


def _check_counts(counts: Mapping[str, int | None]) -> None:
    for flag, count in counts.items():
        if count is not None and count < 1:
            raise BadInput(f"{flag}: {count} measures nothing; write 1 or more")


def _seconds(flag: str, value: str) -> float:
    return _parsed(flag, parse_seconds, value)


def _parsed(flag: str, parse: Callable[[object], float], value: str) -> float:
    try:
        return parse(value)
    except ValueError as error:
        raise BadInput(f"{flag}: {error}") from None


def _deadlines(timeout: str | None) -> dict[str, Any]:
    """One time for all of an answer: neither its first token nor a pause in it has a limit of its own."""
    if timeout is None:
        return {}
    if not (seconds := _seconds("--timeout", timeout)):
        raise BadInput("--timeout: no answer comes in no time; write such as 60s")
    connect = format_seconds(min(CONNECT_S, seconds))
    return {"deadlines": {"connect": connect, "first": timeout, "stall": timeout, "total": timeout}}


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:  # and not repeated here: it may be a key
        raise BadInput("--header: write 'Name: value', such as 'api-key: ${AZURE_KEY}'")
    return name.strip(), value.strip()


def _json_object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"--extra-body: write a JSON object, such as '{{\"priority\": 1}}' ({error})"
        ) from None
    if not isinstance(parsed, dict):
        raise BadInput("--extra-body: write a JSON object, such as '{\"priority\": 1}'")
    return parsed


def _objective(text: str) -> tuple[str, str]:
    metric, equals, limit = text.partition("=")
    if not equals:
        raise BadInput(f"--slo: write METRIC=LIMIT, such as latency_p95=400ms, not {text!r}")
    return metric.strip(), limit.strip()


def _experiment(fields: dict[str, Any]) -> Experiment:
    try:
        return Experiment.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        named = [
            part for part in problem["loc"] if isinstance(part, str) and part not in RATE_KINDS
        ]
        field = "slo" if "slo" in named else named[-1] if named else "name"
        flag = _FLAGS.get(field, field.replace("_", "-"))
        raise BadInput(f"--{flag}: {problem['msg'].removeprefix('Value error, ')}") from None
