"""What is expected of a remedy, corrected by what such remedies did on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from results.decision.binding_case import Remedy
from results.decision.improvement.record import ImproveRound, KnownEffect
from results.metrics import RECORDS
from results.summary import Objective

RULE = (
    "an expectation is multiplied by exp(S / (n + 1)): S is the sum of log(measured / expected) "
    "over the n times that this kind of remedy was measured on this machine, else its family; so "
    "one measurement counts half"
)
SCORE = "score"
CANDIDATE = "candidate"
"""The kind of what an experiment offers: one says nothing of another."""
_LARGEST = 1000.0
"""No remedy multiplies or divides anything by more."""


@dataclass(frozen=True)
class ExpectedRemedy:
    """A remedy with its expectations after correction.

    `factor`: as `Remedy.expected`, None where nobody knows. `keeps`: the factor on the score.
    """

    remedy: Remedy
    factor: float | None
    keeps: float
    source: str


def expect(remedy: Remedy, about: str, known: Sequence[KnownEffect]) -> ExpectedRemedy:
    """The expectation on what binds (`about`), after what is known."""
    factor, times = correction(remedy.kind, about, known)
    keeps, _ = correction(remedy.kind, SCORE, known)
    unknown = remedy.expected is None and not times
    source = remedy.words.source
    if times:
        source += f"; corrected by {times} measurement{'s' if times > 1 else ''} here"
    return ExpectedRemedy(
        remedy,
        None if unknown else (remedy.expected or 1.0) * factor,
        remedy.keeps * keeps,
        source,
    )


def correction(kind: str, about: str, known: Sequence[KnownEffect]) -> tuple[float, int]:
    """The factor of `RULE`, and how many measurements it rests on."""
    alike = [each for each in known if each.about == about]
    effects = [each for each in alike if each.kind == kind]
    effects = effects or [each for each in alike if _family(each.kind) == _family(kind)]
    total = sum(log(each.measured / each.expected) for each in effects)
    return exp(total / (len(effects) + 1)), len(effects)


def _family(kind: str) -> str:
    """ "quantize" of "quantize w8a8-int8"."""
    return kind.partition(" ")[0]


def on_metric(factor: float, floor: bool) -> float:
    """A factor of `Remedy.expected` as one on the metric: its inverse where more is better."""
    return 1 / factor if floor else factor


def is_floor(objective: Objective) -> bool:
    """Whether an objective is a least value."""
    if objective.kind == "slo":
        return RECORDS[objective.metric].better == "higher"
    return objective.kind == "quality"


def is_believed(effect: KnownEffect) -> bool:
    """Whether its numbers can be factors of a remedy; a file may hold any."""
    return all(1 / _LARGEST <= each <= _LARGEST for each in (effect.expected, effect.measured))


def effects_of(round_: ImproveRound) -> list[KnownEffect]:
    """What a measured round teaches of its kinds of remedies."""
    effects: list[KnownEffect] = []
    for tried in (each for each in round_.tried if each.kind != CANDIDATE):
        published = 1.0 if tried.published is None else tried.published
        pairs = [
            (round_.about, published, tried.measured, round_.floor),
            (SCORE, tried.score_published, tried.score, False),
        ]
        for about, expected, estimate, floor in pairs:
            value = estimate.value if estimate else None
            if value is not None and value > 0 and expected > 0:
                effects.append(
                    KnownEffect(
                        kind=tried.kind,
                        about=about,
                        expected=on_metric(expected, floor),
                        measured=on_metric(value, floor),
                    )
                )
    return [effect for effect in effects if is_believed(effect)]
