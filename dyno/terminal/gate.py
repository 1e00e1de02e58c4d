"""The gate of `--gate`: it opens only if the verdicts recommend a variant to ship."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import Exit
from results.summary import Summary, Verdicts


@dataclass(frozen=True)
class Gate:
    """An exit code and the reason for it."""

    code: Exit
    reason: str

    @property
    def sentence(self) -> str:
        """The last line of a command: whether the gate is open or shut, and why."""
        state = "open" if self.code is Exit.DONE else f"shut (exit code {int(self.code)})"
        return f"gate: {state}: {self.reason}"


def gate_of(summary: Summary, verdicts: Verdicts) -> Gate:
    """The gate for a run's verdicts.

    0: a variant other than the baseline ships. A run's only variant ships if it meets every
    objective. 1: the measurement shows that no variant is good enough, or the baseline is better.
    2: a verdict is not settled, a measurement is not valid, or the experiment has no objective.
    """
    if not any(verdict.objectives for verdict in verdicts.variants):
        return Gate(
            Exit.INCONCLUSIVE, "nothing was asked; write slo, quality or budget into the experiment"
        )
    headline = verdicts.headline.rstrip(".")
    candidates = [v for v in verdicts.variants if not v.is_baseline] or verdicts.variants
    if verdicts.recommended not in [v.variant for v in candidates]:
        is_open = any(v.decision == "INCONCLUSIVE" for v in candidates)
        decisions = ", ".join(f"{v.variant}: {v.decision}" for v in candidates)
        code = Exit.INCONCLUSIVE if is_open else Exit.DONT_SHIP
        return Gate(code, f"{headline} ({decisions})")
    deciding: set[str | None] = {verdicts.recommended, verdicts.baseline}
    if failures := [reason for name, reason in summary.failed.items() if name in deciding]:
        return Gate(Exit.INCONCLUSIVE, f"{headline}, but {'; '.join(failures)}")
    if invalid := _invalid_stages(summary, deciding):
        reason = f"{headline}, but the measurement is INVALID: {'; '.join(invalid)}"
        return Gate(Exit.INCONCLUSIVE, reason)
    return Gate(Exit.DONE, headline)


def _invalid_stages(summary: Summary, variants: set[str | None]) -> list[str]:
    """The INVALID stages of the variants, judged or not, each with its reason."""
    return [
        f"{variant.variant}, {stage.stage}: {reason.partition(': ')[2]}"
        for variant in summary.variants
        if variant.variant in variants
        for stage in variant.stages
        for reason in stage.validity.reasons
        if reason.startswith("INVALID")
    ]
