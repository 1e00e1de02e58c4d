"""The sections `slo`, `quality`, `budget`, `plan` and `resolution` of `experiment.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    RootModel,
    field_validator,
    model_serializer,
    model_validator,
)

from foundation.names import Name
from foundation.path_fields import File, FileOrName
from foundation.section import Section, nearest
from foundation.units import (
    Change,
    Count,
    Dollars,
    Rate,
    Seconds,
    Share,
    parse_factor,
    parse_rate,
    parse_seconds,
    parse_share,
)
from results.answer_text.normal_form import normalise
from results.answer_text.numbers import parse_tolerance
from results.answer_text.pattern import compiled
from results.metrics import RECORDS, SLO_METRICS, keys

FEWEST_PARTS = 24
"""The fewest parts of a day that a plan follows: its hours."""

Scorer = Literal[
    "exact_match",
    "contains",
    "number",
    "f1",
    "rouge_l",
    "json_valid",
    "json_equal",
    "regex",
    "choice",
]


@dataclass(frozen=True)
class Limit:
    """The most a time or share may be, or the least a rate may be.

    `absolute` is in ms, a share, or per second; `relative` is a factor of the baseline's value.
    """

    text: str
    absolute: float | None = None
    relative: float | None = None


def is_relative(text: str) -> bool:
    """Whether a limit is written relative to the baseline: "1.1x", "+5%", "-5%"."""
    return text.endswith("x") or text[:1] in ("+", "-")


def parse_limit(metric: str, value: object) -> Limit:
    """`"400ms"`, `"0.1%"` and `"5/s"` are absolute, `"1.1x"` and `"-5%"` relative to the baseline.

    Raises ValueError.
    """
    text = str(value).strip()
    if is_relative(text):
        return Limit(text, relative=parse_factor(text))
    if RECORDS[metric].kind == "share":
        return Limit(text, absolute=parse_share(value))
    if RECORDS[metric].kind == "rate":
        if "/" not in text:
            raise ValueError(
                "write a rate with its unit, such as 5/s or 2k/s, "
                f"or a limit relative to the baseline such as 0.9x or -5%, not {value!r}"
            )
        return Limit(text, absolute=parse_rate(value))
    try:
        seconds = parse_seconds(value)
    except ValueError:
        if "," in text:  # what is wrong with it has been said
            raise
        seconds = 0.0
    if not seconds:
        raise ValueError(
            "write a duration such as 400ms, above zero, or a limit relative to the baseline "
            f"such as 1.1x or +5%, not {value!r}"
        )
    return Limit(text, absolute=seconds * 1e3)


def _slo(value: object) -> dict[str, Limit]:
    if not isinstance(value, dict):
        raise ValueError("write metric: limit pairs, such as {latency_p95: 400ms}")
    limits = {}
    for key, limit in value.items():
        if key not in SLO_METRICS:
            raise ValueError(f"{key}: not a metric an SLO can name{nearest(str(key), SLO_METRICS)}")
        try:
            limits[key] = limit if isinstance(limit, Limit) else parse_limit(key, limit)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    if "goodput" in limits and not any(RECORDS[key].kind == "time" for key in limits):
        raise ValueError(
            "goodput: it counts the requests that keep the limits on times; "
            "name one too, such as latency_p95: 2s, or write requests_per_s"
        )
    return limits


class Slo(RootModel[Annotated[dict[str, Any], BeforeValidator(_slo)]]):
    """Metric name to `Limit`.

    Names are `SLO_METRICS`: latency_p95, ttft_p95, tpot_p95, error_rate, ...
    """

    @property
    def limits(self) -> dict[str, Limit]:
        """The limits by metric."""
        return self.root

    @model_serializer
    def _as_written(self) -> dict[str, str]:
        return {metric: limit.text for metric, limit in self.root.items()}


class Scoring(Section):
    """How an answer is scored against its reference.

    `labels` are the allowed answers of `choice`; `pattern` is regex's; `tolerance` is how far a
    `number` may be off: an amount ("0.01"), or a share of the reference ("1%").
    """

    scorer: Scorer = "exact_match"
    labels: tuple[str, ...] = ()
    pattern: str | None = None
    tolerance: str | None = Field(default=None, coerce_numbers_to_str=True)

    @field_validator("labels")
    @classmethod
    def _are_different(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        first: dict[str, str] = {}
        for label in labels:
            if not (plain := normalise(label)):
                raise ValueError(f"{label!r} is no label; write a word")
            if plain in first:
                raise ValueError(
                    f"{first[plain]!r} and {label!r} are one label to the scorer; leave one of "
                    "them out"
                )
            first[plain] = label
        return labels

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        compiled(pattern or "")
        return pattern

    @field_validator("tolerance")
    @classmethod
    def _can_be_kept(cls, tolerance: str | None) -> str | None:
        if tolerance is not None:
            parse_tolerance(tolerance)
        return tolerance

    @model_validator(mode="after")
    def _regex_needs_pattern(self) -> Scoring:
        if self.scorer == "regex" and not self.pattern:
            raise ValueError("scorer regex needs a pattern")
        if self.tolerance is not None and self.scorer != "number":
            raise ValueError("tolerance belongs to the scorer number")
        return self


class Probe(Scoring):
    """A second question set, asked outside the timed load: what did tuning forget?"""

    name: Name
    data: FileOrName
    scorer: Scorer = "choice"
    requests: Count | None = None
    max_tokens: Count = 32
    max_drop: Share | None = None


class QualityConfig(Scoring):
    """The scorer of the timed answers, their least score, and the most they may lose.

    `max_drop` is against the baseline.
    """

    min: Share | None = None
    max_drop: Share | None = None
    probes: tuple[Probe, ...] = ()


class Price(Section):
    """The price of a self-hosted accelerator (`accelerator_hour`) or of metered tokens.

    `accelerators` are those of one replica: left out, those that the variant's server computes on,
    or one. With both prices, requests are priced by their tokens,
    and the replicas of the capacity plan by the hour.
    """

    accelerator_hour: Dollars | None = None
    accelerators: Count | None = None
    input_per_token: Dollars | None = None
    output_per_token: Dollars | None = None
    input_per_million: Dollars | None = None
    output_per_million: Dollars | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Price:
        metered = [p for p in (self.input_price, self.output_price) if p is not None]
        if self.accelerator_hour is None and not metered:
            raise ValueError(
                "write accelerator_hour (self-hosted), or input_per_million and "
                "output_per_million (metered)"
            )
        for side in ("input", "output"):
            if (
                getattr(self, f"{side}_per_token") is not None
                and getattr(self, f"{side}_per_million") is not None
            ):
                raise ValueError(f"write {side}_per_token or {side}_per_million, not both")
        return self

    def accelerators_of(self, servers_own: int | None) -> int:
        """The accelerators of a replica: as written, else those of the server, else one."""
        return self.accelerators or servers_own or 1

    @property
    def input_price(self) -> float | None:
        """Dollars per input token, None where not metered."""
        return _per_token(self.input_per_token, self.input_per_million)

    @property
    def output_price(self) -> float | None:
        """Dollars per output token, None where not metered."""
        return _per_token(self.output_per_token, self.output_per_million)


def _per_token(token: float | None, million: float | None) -> float | None:
    return token if token is not None else None if million is None else million / 1e6


class BudgetConfig(Section):
    """What it may cost.

    `max_increase` bounds the cost per request against the baseline's (20%: no more than 1.2 times).
    `tuning` is what the fine-tuning cost, for the break-even; left out, it is the time it took at
    `accelerator_hour`.
    """

    price: Price
    per_month: Dollars | None = None
    requests_per_month: Count | None = None
    max_increase: Change | None = None
    tuning: Dollars | None = None

    @model_validator(mode="after")
    def _month_needs_traffic(self) -> BudgetConfig:
        if self.per_month is not None and self.requests_per_month is None:
            raise ValueError("per_month needs requests_per_month, the traffic it is to pay for")
        return self


def _traffic_of_a_part(value: object) -> float:
    """A rate, or no traffic at all in a part of the day."""
    nothing = not isinstance(value, bool) and str(value).strip() in ("0", "0.0", "0/s")
    return 0.0 if nothing else parse_rate(value)


class PlanConfig(Section):
    """The traffic to plan for, in requests/s.

    `peak_rate`: the busiest minute; left out, that of `day` or `trace`. `mean_rate`: over a month;
    left out, that of the day. `day`: 24 rates or more, equal parts of a day; `trace`: a recording
    to take them from. `day_hours`: the hours that `day` covers before it repeats.

    `headroom` is the share of every replica that is kept free, `spare` the replicas beyond need.
    `burst`: the traffic of a moment over the rate of its minute. `startup`: until a new replica
    serves. `catalogue`: a file of accelerators and prices (docs/capacity.md).
    """

    peak_rate: Rate | None = None
    mean_rate: Rate | None = None
    day: tuple[Annotated[float, BeforeValidator(_traffic_of_a_part)], ...] = ()
    day_hours: float = Field(default=24.0, gt=0, allow_inf_nan=False)
    trace: File | None = None
    headroom: Share = 0.2
    spare: int = Field(default=1, ge=0)
    burst: float = Field(default=1.0, ge=1, allow_inf_nan=False)
    startup: Seconds = 0.0
    catalogue: File | None = None

    @field_validator("headroom")
    @classmethod
    def _some_is_used(cls, headroom: float) -> float:
        if headroom >= 1:
            raise ValueError(
                "a replica that is kept free serves nobody; write a share below 100%, such as 20%"
            )
        return headroom

    @field_validator("day")
    @classmethod
    def _a_whole_day(cls, day: tuple[float, ...]) -> tuple[float, ...]:
        if day and len(day) < FEWEST_PARTS:
            raise ValueError(
                f"write {FEWEST_PARTS} rates or more, one an hour; there are {len(day)}"
            )
        if day and not any(day):
            raise ValueError("every rate is zero: there is no traffic to plan for")
        return day

    @model_validator(mode="after")
    def _some_traffic(self) -> PlanConfig:
        if self.day and self.trace:
            raise ValueError(
                "day: the trace says how traffic goes over a day; leave one of them out"
            )
        if self.peak_rate is None and not self.day and self.trace is None:
            raise ValueError(
                "peak_rate: missing; write the requests/s to plan for, or day or trace"
            )
        if self.peak_rate is not None and self.peak_rate < max(self.mean_rate or 0, *self.day, 0):
            raise ValueError(
                "peak_rate: below the mean_rate or a rate of the day; write the highest"
            )
        return self

    @property
    def peak(self) -> float:
        """The highest rate, requests/s. A `trace` must have become a `day` before."""
        return self.peak_rate if self.peak_rate is not None else max(self.day)

    @property
    def mean(self) -> float | None:
        """The mean rate, requests/s; None where nobody wrote it and there is no day."""
        if self.mean_rate is not None or not self.day:
            return self.mean_rate
        return sum(self.day) / len(self.day)


class ResolutionConfig(Section):
    """The `change` of `metric` that the comparison should show with probability `power`.

    "3%" means `change: 3%`. The first `pilot` blocks of the judged stage show how much blocks
    differ; they count. Blocks are added until `max_time` seconds of load.
    """

    change: Change = Field(gt=0)
    metric: str = "latency_p95"
    power: Share = Field(default=0.8, gt=0.5, lt=1)
    pilot: int = Field(default=3, ge=1)
    max_time: Seconds = 1800.0

    @model_validator(mode="before")
    @classmethod
    def _bare_change(cls, value: Any) -> Any:
        return value if isinstance(value, dict | ResolutionConfig) else {"change": value}

    @field_validator("metric")
    @classmethod
    def _a_time(cls, metric: str) -> str:
        times = keys("slo", "time")
        if metric not in times:
            raise ValueError(
                f"{metric!r} is not a time{nearest(metric, times)}; write one such as latency_p95"
            )
        return metric
