"""Reads and checks the values of flags; errors name the flag."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import ValidationError

from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from foundation.units import format_seconds, parse_seconds
from foundation.wrong_values import wrong_value
from loadgen.config import RATE_KINDS

CONNECT_S = 5.0

# The flags of fields that have another name.
FLAGS = {
    "extra": "extra-body",
    "headers": "header",
    "max_tokens": "output-tokens",
    "eval": "data",
    "connect": "timeout",
    "first": "timeout",
    "stall": "timeout",
    "total": "timeout",
}


def check_counts(counts: Mapping[str, int | None]) -> None:
    """Raises BadInput for a count below 1. `counts`: by flag."""
    for flag, count in counts.items():
        if count is not None and count < 1:
            raise BadInput(f"{flag}: {count} measures nothing; write 1 or more")


def seconds_of(flag: str, value: str) -> float:
    """The seconds of a text such as 60s or 10m. Raises BadInput."""
    return parsed(flag, parse_seconds, value)


def parsed(flag: str, parse: Callable[[object], float], value: str) -> float:
    """The value as `parse` reads it, whose ValueError becomes a BadInput."""
    try:
        return parse(value)
    except ValueError as error:
        raise BadInput(f"{flag}: {error}") from None


def deadlines(timeout: str | None) -> dict[str, dict[str, str]]:
    """`workload.deadlines` with one limit for a whole answer, its first token and every pause."""
    if timeout is None:
        return {}
    if not (seconds := seconds_of("--timeout", timeout)):
        raise BadInput("--timeout: no answer comes in no time; write such as 60s")
    connect = format_seconds(min(CONNECT_S, seconds))
    return {"deadlines": {"connect": connect, "first": timeout, "stall": timeout, "total": timeout}}


def sampling(
    max_tokens: int | str | None, seed: int | None, temperature: float | None
) -> dict[str, int | str | float]:
    """`workload.sampling` with those of the settings that are given."""
    settings = {"max_tokens": max_tokens, "seed": seed, "temperature": temperature}
    return {key: value for key, value in settings.items() if value is not None}


def objective(text: str) -> tuple[str, str]:
    """Metric and limit of a text such as "latency_p95=400ms". Raises BadInput."""
    metric, equals, limit = text.partition("=")
    if not equals:
        raise BadInput(f"--slo: write METRIC=LIMIT, such as latency_p95=400ms, not {text!r}")
    return metric.strip(), limit.strip()


def checked_experiment(sections: Mapping[str, object]) -> Experiment:
    """The experiment of these sections. Raises BadInput that names the flag of a wrong value."""
    try:
        return Experiment.model_validate(sections)
    except ValidationError as error:
        problem = error.errors()[0]
        path = [part for part in problem["loc"] if isinstance(part, str) and part not in RATE_KINDS]
        field = "slo" if "slo" in path else path[-1] if path else "name"
        flag = FLAGS.get(field, field.replace("_", "-"))
        raise BadInput(f"--{flag}: {wrong_value(problem)}") from None
