"""What `--gate` makes of a verdict: it opens only for a variant that is recommended to ship, and
says why where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import Exit
from results.summary import Summary, Verdicts


@dataclass(frozen=True)
class Gate:
    """The exit code and the reason for it."""

    code: Exit
    reason: str

    @property
    def sentence(self) -> str:
        return f"gate: {'open' if self.code is Exit.DONE else f'shut (exit code {int(self.code)})'}: {self.reason}"


def gate_of(summary: Summary, verdicts: Verdicts) -> Gate:
    """0: a variant ships that is not the baseline; the one variant of a run of one ships where it
    meets every objective.

    1: what was measured is shown not to be good enough, or the baseline is better. 2: something is
    not settled, not measured validly, or nothing was asked.
    """
    if not any(verdict.objectives for verdict in verdicts.variants):
        return Gate(
            Exit.INCONCLUSIVE, "nothing was asked; write slo, quality or budget into the experiment"
        )
    candidates = [v for v in verdicts.variants if not v.is_baseline] or verdicts.variants
    if verdicts.recommended not in [v.variant for v in candidates]:
        is_open = any(v.decision == "INCONCLUSIVE" for v in candidates)
        decisions = ", ".join(f"{v.variant}: {v.decision}" for v in candidates)
        return Gate(
            Exit.INCONCLUSIVE if is_open else Exit.DONT_SHIP,
            f"{verdicts.headline.rstrip('.')} ({decisions})",
        )
    if failed := [
        why
        for name, why in summary.failed.items()
        if name in (verdicts.recommended, verdicts.baseline)
    ]:
        return Gate(Exit.INCONCLUSIVE, f"{verdicts.headline.rstrip('.')}, but {'; '.join(failed)}")
    if invalid := _invalid(summary, {verdicts.recommended, verdicts.baseline}):
        return Gate(
            Exit.INCONCLUSIVE,
            f"{verdicts.headline.rstrip('.')}, but the measurement is INVALID: {'; '.join(invalid)}",
        )
    return Gate(Exit.DONE, verdicts.headline.rstrip("."))


def _invalid(summary: Summary, variants: set[str | None]) -> list[str]:
    """The INVALID stages of some variants: a stage beside the judged one may be the one that could
    not be driven.
    """
    return [
        f"{variant.variant}, {stage.stage}: {reason.partition(': ')[2]}"
        for variant in summary.variants
        if variant.variant in variants
        for stage in variant.stages
        for reason in stage.validity.reasons
        if reason.startswith("INVALID")
    ]
