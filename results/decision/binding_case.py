"""A variant with the objective that binds it, which remedies are chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from foundation.run.records import PLAIN, Kind, VariantRecord
from foundation.yaml_values import YamlValue
from results.decision.patch import Patch
from results.decision.work import RequestWork, TimeParts, factor_on
from results.inputs import RunInputs
from results.measures.cost import is_metered
from results.metrics import RECORDS
from results.summary import Advice, Objective, StageSummary, VariantSummary

_OWN_ADAPTER = "finetune"


@dataclass(frozen=True)
class BindingCase:
    """What a remedy is chosen by. `measured`: all variants of the run, by name."""

    variant: VariantSummary
    record: VariantRecord
    stage: StageSummary
    binding: Objective
    inputs: RunInputs
    measured: Mapping[str, VariantSummary] = field(default_factory=dict)

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

    @cached_property
    def keys(self) -> Mapping[str, YamlValue]:
        """The variant's keys in the experiment; of a run without them, what its kind says."""
        if keys := self.inputs.settings.variants.get(self.variant.variant):
            return keys
        origin: dict[Kind, str] = {"adapter": "adapter", "merged": "merge", "quantized": "merge"}
        style = self.variant.prompt_style
        return {
            "name": self.variant.variant,
            **({origin[self.record.kind]: _OWN_ADAPTER} if self.record.kind in origin else {}),
            **({} if style == PLAIN else {"prompt": style}),
        }

    @property
    def trained_here(self) -> bool:
        """Whether the experiment trains the adapter that the variant serves or merges."""
        own = str(self.weights or "").partition("/")[0] == _OWN_ADAPTER
        return own or "prune" in self.keys or "distil" in self.keys

    @property
    def weights(self) -> YamlValue:
        """The adapter that the variant serves or merges; None without one."""
        return self.keys.get("adapter") or self.keys.get("merge")

    def changed(self, suffix: str, **keys: YamlValue) -> Patch:
        """The variant under another name with other keys, as a variant to add.

        A key that is None is left out. A served adapter is merged where the change needs that.
        """
        own = {key: value for key, value in self.keys.items() if key not in ("name", "prompt")}
        if self.keys.get("adapter") and ("quantize" in keys or "merge" in keys):
            own = {"merge": own.pop("adapter"), **own}
        changed = {"name": f"{self.variant.variant}-{suffix}", **own, **keys}
        changed.setdefault("prompt", self.keys.get("prompt"))
        return Patch({k: v for k, v in changed.items() if v is not None})

    def own(self, section: str, **keys: YamlValue) -> dict[str, YamlValue]:
        """The variant's own keys of a section, with these in their place."""
        own = self.keys.get(section)
        return {**(own if isinstance(own, Mapping) else {}), **keys}

    @cached_property
    def parts(self) -> TimeParts | None:
        """Where the time of the variant's mean request goes."""
        return TimeParts.of(self.stage)

    def factor(self, work: RequestWork) -> float:
        """The factor on a binding time or cost if the work changes so; on a rate, its inverse."""
        if self.about == "cost" and not self.hardware:
            share = self.prompt_share
            return share * work.input + (1 - share) * work.output
        if self.parts is None:
            return work.decode
        return factor_on(self.about, self.parts, work)

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
    """What to do, the change of the experiment that does it, and what that should do.

    `kind`: a name that is the same in all runs; its first word names the family, whose effects
    stand in for those of a kind that was not measured. `expected`: the factor on the binding time,
    cost or share of failures, and the inverse of that on a rate or a score, which should rise; None
    where nobody knows it beforehand. `words`: the advice without the lines to paste, which `patch`
    has. `keeps`: the factor on the score. `work`: what becomes of a request's work; None for a
    remedy that changes something else.
    """

    kind: str
    expected: float | None
    words: Advice
    patch: Patch | None = None
    keeps: float = 1.0
    work: RequestWork | None = None

    @property
    def advice(self) -> Advice:
        """The words with the lines to paste."""
        return msgspec.structs.replace(self.words, change=self.patch.text if self.patch else None)
