"""What-if questions as a user writes them: "output_tokens*0.5", "slo.ttft_p95=300ms, rate*10"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from foundation.errors import BadInput
from foundation.section import nearest
from foundation.units import parse_dollars, parse_number, parse_rate, parse_share
from foundation.wrong_values import wrong_value
from results.config import PlanConfig, Slo

_CHANGE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*([*=])\s*(\S(?:.*\S)?)\s*", re.DOTALL)
TOKENS = ("input_tokens", "output_tokens")
_PLANNED: dict[str, Callable[[object], object]] = {
    "headroom": parse_share,
    "spare": parse_number,
    "burst": parse_number,
}
_NAMES = (*TOKENS, "rate", "prompt", "replicas", "price", *_PLANNED)
_EXAMPLES = "output_tokens*0.5, rate*10, prompt=short, slo.ttft_p95=300ms or replicas=3"
_SCALED = (*TOKENS, "rate", "price")


@dataclass(frozen=True)
class PlanChange:
    """One change: a name, times a factor or set to a value (as text)."""

    name: str
    sign: Literal["*", "="]
    value: str

    def scaled(self, number: float, parse: Callable[[object], float]) -> float:
        """The number after the change. `parse` reads the new value."""
        return number * parse_number(self.value) if self.sign == "*" else parse(self.value)


@dataclass(frozen=True)
class PlanQuestion:
    """All changes of one what-if, made together."""

    text: str
    changes: tuple[PlanChange, ...]

    def of(self, *names: str) -> list[PlanChange]:
        """The changes of these names."""
        return [change for change in self.changes if change.name in names]

    @property
    def needs_model(self) -> bool:
        """Whether only a model can answer: the requests themselves change."""
        return bool(self.of(*TOKENS, "prompt"))

    def requests(self, styles: Mapping[str, str]) -> dict[str, Literal["lighter", "other"]]:
        """By variant, how its requests differ from those measured; without those that do not.

        `styles`: the prompt style of each variant.
        """
        tokens = self.of(*TOKENS)
        shorter = all(c.sign == "*" and parse_number(c.value) <= 1 for c in tokens)
        kinds: dict[str, Literal["lighter", "other"]] = {}
        for name, style in styles.items():
            if self.prompt not in (None, style) or not shorter:
                kinds[name] = "other"
            elif tokens:
                kinds[name] = "lighter"
        return kinds

    @property
    def replicas(self) -> int | None:
        """The number of replicas in the question."""
        return next((int(parse_number(c.value)) for c in self.of("replicas")), None)

    @property
    def prompt(self) -> str | None:
        """The prompt style in the question."""
        return next((change.value for change in self.of("prompt")), None)

    def plan(self, plan: PlanConfig) -> PlanConfig:
        """The plan with other traffic, headroom, spare or burst. Raises BadInput."""
        fields: dict[str, object] = {}
        for change in self.of("rate"):
            fields |= _other_traffic(plan, change.scaled(plan.peak, parse_rate))
        fields |= {change.name: change.value for change in self.of("headroom", "burst")}
        fields |= {change.name: int(parse_number(change.value)) for change in self.of("spare")}
        try:
            written = plan.model_dump(mode="json", exclude_defaults=True)
            return PlanConfig.model_validate({**written, **fields})
        except ValidationError as error:
            raise _wrong(self.text, _reason(error)) from None

    def slo(self, slo: Slo) -> Slo:
        """The SLO with other limits. Raises BadInput."""
        limits = {
            change.name.removeprefix("slo."): change.value
            for change in self.changes
            if change.name.startswith("slo.")
        }
        try:
            return Slo.model_validate({**slo.limits, **limits}) if limits else slo
        except ValidationError as error:
            raise _wrong(self.text, _reason(error)) from None

    def price(self, hour: float) -> float:
        """Dollars an hour of an accelerator, after the changes."""
        for change in self.of("price"):
            hour = change.scaled(hour, parse_dollars)
        return hour


def _other_traffic(plan: PlanConfig, peak: float) -> dict[str, object]:
    """The fields of the plan's traffic, all in proportion to another peak."""
    factor = peak / plan.peak
    fields: dict[str, object] = {"peak_rate": peak}
    if plan.mean_rate is not None:
        fields["mean_rate"] = min(plan.mean_rate * factor, peak)
    if plan.day:
        fields["day"] = tuple(min(rate * factor, peak) for rate in plan.day)
    return fields


def parse_question(text: str) -> PlanQuestion:
    """A question out of "NAME*FACTOR" and "NAME=VALUE", with commas between changes.

    Raises BadInput in one line for anything else.
    """
    question = PlanQuestion(text, tuple(_change(text, part) for part in text.split(",")))
    names = [change.name for change in question.changes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _wrong(text, f"{twice} is changed twice")
    question.slo(Slo({}))
    return question


def _change(text: str, part: str) -> PlanChange:
    match = _CHANGE.fullmatch(part)
    if match is None:
        raise _wrong(text, f"write {_EXAMPLES}")
    name, sign, value = match[1], match[2], match[3]
    if not name.startswith("slo.") and name not in _NAMES:
        raise _wrong(text, f"{name!r} can't be changed{nearest(name, (*_NAMES, 'slo.ttft_p95'))}")
    if sign == "*" and name not in _SCALED:
        raise _wrong(text, f"{name} has no factor; write {name}=VALUE")
    change = PlanChange(name, "*" if sign == "*" else "=", value)
    try:
        _check(change)
    except ValueError as error:
        raise _wrong(text, f"{name}: {error}") from None
    return change


def _check(change: PlanChange) -> None:
    """Raises ValueError for a value that the name can't have."""
    if change.sign == "*":
        if parse_number(change.value) <= 0:
            raise ValueError(f"write a factor above zero, not {change.value!r}")
    elif change.name in (*TOKENS, "replicas"):
        number = parse_number(change.value)
        if number != int(number) or number < 1:
            raise ValueError(f"write a whole number above zero, not {change.value!r}")
    elif change.name == "rate":
        parse_rate(change.value)
    elif change.name == "price":
        parse_dollars(change.value)
    elif change.name in _PLANNED:
        number = float(str(_PLANNED[change.name](change.value)))
        if change.name == "spare" and number != int(number):
            raise ValueError(f"write a whole number, not {change.value!r}")


def _reason(error: ValidationError) -> str:
    return wrong_value(error.errors()[0])


def _wrong(text: str, reason: str) -> BadInput:
    return BadInput(f"--what-if {text!r}: {reason}")
