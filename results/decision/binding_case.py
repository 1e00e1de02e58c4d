"""A variant with the objective that binds it, which remedies are chosen by."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.run.records import PLAIN, VariantRecord
from results.inputs import RunInputs
from results.measures.cost import is_metered
from results.metrics import RECORDS
from results.summary import Advice, Objective, StageSummary, VariantSummary


@dataclass(frozen=True)
class BindingCase:
    """What a remedy is chosen by."""

    variant: VariantSummary
    record: VariantRecord
    stage: StageSummary
    binding: Objective
    inputs: RunInputs

    @property
    def about(self) -> str:
        """What binds: the family of an SLO, "quality", "change" (quality lost) or "cost"."""
        if self.binding.kind == "slo":
            return RECORDS[self.binding.metric].family
        if self.binding.kind == "budget":
            return "cost"
        return "quality" if self.binding.metric == "quality" else "change"

    @property
    def bounded(self) -> bool:
        """Whether the data bound the value that binds, on one side at least."""
        return self.binding.value.low is not None or self.binding.value.high is not None

    @property
    def judged(self) -> bool:
        """Whether it is bounded, or what there is of it breaks the limit.

        A rate that is not bounded may be the rate of the load and not of the server.
        """
        if self.bounded or self.is_rate:
            return self.bounded
        return self.binding.margin is not None and self.binding.margin < 0

    @property
    def slow(self) -> bool:
        """Whether a time binds, or a rate, which a faster server raises."""
        return self.is_rate or (
            self.binding.kind == "slo" and RECORDS[self.binding.metric].kind == "time"
        )

    @property
    def is_rate(self) -> bool:
        """Whether a floor under a rate binds."""
        return self.binding.kind == "slo" and RECORDS[self.binding.metric].kind == "rate"

    @property
    def hardware(self) -> bool:
        """Whether a faster model would help: always for times, for costs if hours are paid."""
        price = self.inputs.budget.price if self.inputs.budget else None
        return self.slow or (self.about == "cost" and price is not None and not is_metered(price))

    def mean(self, metric: str) -> float:
        """A metric of the stage, 0 if it is absent."""
        return self.stage.metrics[metric].value or 0.0

    def variant_line(self, suffix: str, **how: str) -> str:
        """A variant to add to the experiment, asked as this one is."""
        prompt = {} if self.variant.prompt_style == PLAIN else {"prompt": self.variant.prompt_style}
        keys = {"name": f"{self.variant.variant}-{suffix}", **how, **prompt}
        return f"variants:\n  - {{{', '.join(f'{key}: {value}' for key, value in keys.items())}}}"

    @property
    def tuned(self) -> dict[str, str]:
        """What a further variant of the same weights is made of."""
        return {} if self.record.kind == "model" else {"merge": "finetune"}

    @property
    def prompt_share(self) -> float:
        """The part of the binding value that the prompt makes: of a time, or of a metered price."""
        if self.slow:
            return (
                min(1.0, self.mean("ttft_mean") / self.mean("latency_mean"))
                if self.mean("latency_mean")
                else 0.0
            )
        price = self.inputs.budget.price if self.inputs.budget else None
        if price is None or not is_metered(price):
            return 0.0
        parts = [
            (price.input_price or 0.0) * self.mean("input_tokens_mean"),
            (price.output_price or 0.0) * self.mean("output_tokens_mean"),
        ]
        return parts[0] / sum(parts) if sum(parts) else 0.0


@dataclass(frozen=True)
class Remedy:
    """What to do, and the factor that it should multiply the binding value by."""

    expected: float
    advice: Advice
