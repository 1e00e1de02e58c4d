"""What to try next: remedies for the objective that binds, the largest expected effect first.

`expected` is what the binding value is multiplied by if the remedy works: from this run where it can be worked out (a part of the
latency, a share of the tokens), else from the publication that is named. It orders the list; nothing is promised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results.cost import is_metered
from results.inputs import RunInputs
from results.records import PLAIN, VariantRecord
from results.report.format import change, percent, points, quantity
from results.summary import Advice, Objective, StageSummary, Summary, VariantSummary

_TIMES = ("latency", "service_latency", "ttft", "service_ttft", "tpot", "itl")
_FIRST_TOKEN = ("ttft", "service_ttft")


@dataclass(frozen=True)
class _Case:
    """What a remedy is chosen by."""

    variant: VariantSummary
    record: VariantRecord
    stage: StageSummary
    binding: Objective
    inputs: RunInputs

    @property
    def about(self) -> str:
        """What binds: "latency", "ttft", ..., "error_rate", "quality", "change" (quality lost) or "cost"."""
        if self.binding.kind == "slo":
            return "error_rate" if self.binding.metric == "error_rate" else self.binding.metric.rpartition("_")[0]
        if self.binding.kind == "budget":
            return "cost"
        return "quality" if self.binding.metric == "quality" else "change"

    @property
    def slow(self) -> bool:
        return self.about in _TIMES

    @property
    def hardware(self) -> bool:
        """Whether a faster model would help: for a time always, for a cost where hours are paid and not tokens."""
        price = self.inputs.budget.price if self.inputs.budget else None
        return self.slow or (self.about == "cost" and price is not None and not is_metered(price))

    def mean(self, metric: str) -> float:
        return self.stage.metrics[metric].value or 0.0

    def variant_line(self, suffix: str, **how: str) -> str:
        """A variant to add to the experiment, asked as this one is."""
        asked = {} if self.variant.prompt_style == PLAIN else {"prompt": self.variant.prompt_style}
        keys = {"name": f"{self.variant.variant}-{suffix}", **how, **asked}
        return f"variants:\n  - {{{', '.join(f'{key}: {value}' for key, value in keys.items())}}}"

    @property
    def tuned(self) -> dict[str, str]:
        """What a further variant of the same weights is made of."""
        return {} if self.record.kind == "model" else {"merge": "finetune"}

    @property
    def prompt_share(self) -> float:
        """What part of the binding value the prompt makes: of the mean latency until the first token, or of a metered price."""
        if self.slow:
            return min(1.0, self.mean("ttft_mean") / self.mean("latency_mean")) if self.mean("latency_mean") else 0.0
        price = self.inputs.budget.price if self.inputs.budget else None
        if price is None or not is_metered(price):
            return 0.0
        parts = [
            (price.input_price or 0.0) * self.mean("input_tokens_mean"),
            (price.output_price or 0.0) * self.mean("output_tokens_mean"),
        ]
        return parts[0] / sum(parts) if sum(parts) else 0.0


@dataclass(frozen=True)
class _Remedy:
    expected: float
    advice: Advice


def advise(
    variant: VariantSummary, binding: Objective, summary: Summary, inputs: RunInputs, passing: Sequence[str]
) -> list[Advice]:
    """Remedies for one variant: a measured variant that passes first, then more data if it is missing, then the rest.

    Where the measurement is INVALID no remedy for the variant can be judged by it: a better measurement is the only one.
    """
    stage = next((s for s in variant.stages if s.stage == variant.judged_stage), None)
    record = next(r for r in inputs.variants if r.name == variant.variant)
    first = _measured(passing[0], binding, summary) if passing else []
    if stage is None:
        return first
    if stage.validity.level == "INVALID":
        return [*first, _measure_anew(stage)]
    case = _Case(variant, record, stage, binding, inputs)
    if binding.outcome == "unsettled":
        first = [*first, _measure_longer(case)]
    found = [remedy for make in _REMEDIES if (remedy := make(case)) is not None]
    return [*first, *(remedy.advice for remedy in sorted(found, key=lambda r: r.expected))]


def _measured(name: str, binding: Objective, summary: Summary) -> list[Advice]:
    other = next(v for v in summary.variants if v.variant == name)
    stage = next(s for s in other.stages if s.stage == other.judged_stage)
    found = stage.metrics.get(binding.metric) or other.metrics.get(binding.metric)
    effect = "it meets every objective"
    if found is not None and found.value is not None and binding.value.value is not None:
        theirs, ours = quantity(found.value, binding.unit), quantity(binding.value.value, binding.unit)
        effect = f"{binding.label} {theirs} where this one has {ours}"
    keep = name == summary.baseline
    return [
        Advice(
            remedy=f"Keep {name}, the baseline, for now" if keep else f"Take {name} instead: {other.what}",
            why="It was measured beside this one and every objective holds.",
            effect=effect,
            source="this run",
        )
    ]


def _measure_anew(stage: StageSummary) -> Advice:
    return Advice(
        remedy="Measure again at a lower rate, with a higher workload.max_in_flight, or with more workload.workers",
        why=f"Nothing is decided on this measurement: {'; '.join(stage.validity.reasons)}.",
        effect="numbers that can be judged",
        source="this run",
    )


def _measure_longer(case: _Case) -> Advice:
    return Advice(
        remedy="Measure longer",
        why=f"The data do not settle it: {case.binding.sentence}.",
        effect="intervals shrink with the square root of the number of blocks",
        source="this run",
        change=f"workload:\n  blocks: {2 * case.stage.blocks}",
    )


def _merge(case: _Case) -> _Remedy | None:
    if case.record.kind != "adapter" or not case.hardware:
        return None
    return _Remedy(
        0.6,
        Advice(
            remedy="Merge the adapter into the base model",
            why="A served adapter adds its own matrix products to every layer, and turns off optimisations of the engine.",
            effect="the speed of the base model; the adapter's cost is largest on a CPU and with small batches",
            source="E. J. Hu et al., LoRA, 2021: merged weights have no inference latency of their own",
            change=case.variant_line("merged", merge="finetune"),
        ),
    )


def _quantize(case: _Case) -> _Remedy | None:
    if case.record.kind in ("quantized", "url") or not case.hardware:
        return None
    return _Remedy(
        0.64,
        Advice(
            remedy="Quantize: 8-bit weights and activations, or 4-bit weights",
            why="Decoding reads every weight for every token; fewer bytes are read faster, and 8-bit products are cheaper.",
            effect="up to 1.56 times the speed and half the memory with 8 bits; well tuned, it costs 1 to 3 % of the score",
            source="G. Xiao et al., SmoothQuant, 2022 (speed); E. Kurtic et al., Give Me BF16 or Give Me Death?, 2024 (score)",
            change=case.variant_line("int8", **case.tuned, quantize="w8a8-int8"),
        ),
    )


def _prune(case: _Case) -> _Remedy | None:
    if case.record.kind == "url" or not case.hardware:
        return None
    return _Remedy(
        0.75,
        Advice(
            remedy="Prune layers, then tune again (layer pruning)",
            why="Latency goes with the number of layers, and the deeper ones of a chat model change an answer little.",
            effect="up to half of the layers went with little loss in answering questions, once healed by a short fine-tune",
            source="A. Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers, 2024",
            change=case.variant_line("pruned", prune="25%"),
        ),
    )


def _distil(case: _Case) -> _Remedy | None:
    if not (case.slow or case.about == "cost"):
        return None
    return _Remedy(
        0.625,
        Advice(
            remedy="Distil to a smaller model (distillation)",
            why="On a narrow task a small model that learns from this one's answers keeps most of its quality.",
            effect="1.6 times the speed at 97 % of the quality with 40 % fewer weights, in the example that is best known",
            source="V. Sanh et al., DistilBERT, 2019",
            change=case.variant_line("student", prune="50%", distil=case.variant.variant),
        ),
    )


def _fewer_tokens(case: _Case) -> _Remedy | None:
    """Only where the answers grew longer than the baseline's: then the growth is what a limit takes back."""
    grown = case.stage.differences.get("output_tokens_mean")
    extra = grown.absolute.value if grown else None
    tokens = case.mean("output_tokens_mean")
    if not extra or extra <= 0 or not tokens or case.about in ("quality", "change", "error_rate", *_FIRST_TOKEN, "tpot", "itl"):
        return None
    parts = case.stage.decomposition
    share = (1 - case.prompt_share) * extra / tokens
    effect = f"back to the baseline's {tokens - extra:.0f} tokens an answer: about {percent(share)} off"
    if case.slow and parts and parts.verbosity.value and case.mean("latency_mean"):
        share = min(0.99, max(0.0, parts.verbosity.value / case.mean("latency_mean")))
        effect = (
            f"the {extra:.0f} tokens more than the baseline's make {quantity(parts.verbosity.value, 'ms')} of the mean latency"
        )
    return _Remedy(
        1 - share,
        Advice(
            remedy="Limit the answer: a token limit, a stop sequence, or training answers that end sooner",
            why=f"It answers with {tokens:.0f} tokens on average, {extra:.0f} more than the baseline.",
            effect=effect,
            source="this run",
            change=f'workload:\n  sampling: {{max_tokens: {max(1, round(tokens - extra))}, stop: ["\\n"]}}',
        ),
    )


def _shorter_prompt(case: _Case) -> _Remedy | None:
    tokens, share = case.mean("input_tokens_mean"), case.prompt_share
    if not tokens or share < 0.1 or not (case.slow or case.about == "cost") or case.about in ("tpot", "itl"):
        return None
    of = "of the mean latency passes before the first token" if case.slow else "of the price is input tokens"
    return _Remedy(
        1 - share / 2,
        Advice(
            remedy="Shorten the prompt",
            why=f"It is asked with {tokens:.0f} tokens, and {percent(share)} {of}. Tuned, it needs no examples or rules.",
            effect=f"half the prompt takes off up to {percent(share / 2)}",
            source="this run",
            change="prompts:\n  short: |-\n    {input}",
        ),
    )


def _engine(case: _Case) -> _Remedy | None:
    if case.record.kind == "url" or not case.slow:
        return None
    budget = 2048 if case.about in ("tpot", "itl") else 16384
    return _Remedy(
        0.8,
        Advice(
            remedy="Tune the engine's flags",
            why=(
                "Compiled graphs decode faster than eager mode. A smaller budget of tokens a step keeps prefill from "
                "stalling decoding, a larger one gets the first token out sooner."
            ),
            effect="not told beforehand; measure it",
            source="vLLM's documentation, Optimization and Tuning",
            change=f"serve:\n  enforce_eager: false\n  engine: {{max-num-batched-tokens: {budget}}}",
        ),
    )


def _replicas(case: _Case) -> _Remedy | None:
    if case.about not in ("latency", "ttft", "error_rate") or case.stage.offered_rate is None:
        return None
    waited = max(0.0, case.mean("ttft_mean") - case.mean("service_ttft_mean"))
    held = case.mean("requests_per_s") >= 0.9 * case.stage.offered_rate
    return _Remedy(
        0.9 if held else 0.4,
        Advice(
            remedy="Serve it with more replicas",
            why=(
                f"At {case.stage.offered_rate:g} requests/s one replica "
                + ("keeps up" if held else "does not keep up: its queue grows")
                + (f"; {quantity(waited, 'ms')} pass before a request is sent" if waited > 1 else "")
                + "."
            ),
            effect="takes away waiting, not work: the latency of an idle server is the least that can be had",
            source="queueing theory; measure a stage at a lower rate to see how much",
            change=f"workload:\n  stages:\n    - {{rate: {case.stage.offered_rate / 2:g}, duration: 60s}}",
        ),
    )


def _gentler_quantization(case: _Case) -> _Remedy | None:
    if case.about not in ("quality", "change") or case.record.kind != "quantized":
        return None
    again = {"suffix": "merged"} if "int8" in case.record.what else {"suffix": "int8", "quantize": "w8a8-int8"}
    return _Remedy(
        0.5,
        Advice(
            remedy="Quantize less",
            why="What quality was lost against the merged model was lost in rounding: 8 bits round less than 4.",
            effect="all that rounding cost; with 8 bits Llama 3.1 8B keeps 98.8 to 105 % of its scores",
            source="Neural Magic's model card of Meta-Llama-3.1-8B-Instruct-quantized.w8a8, 2024",
            change=case.variant_line(**again, **case.tuned),
        ),
    )


def _milder_tuning(case: _Case) -> _Remedy | None:
    if case.about != "change" or case.record.kind in ("model", "url"):
        return None
    return _Remedy(
        0.6,
        Advice(
            remedy="Tune more gently: fewer epochs, a lower rank, or general examples mixed in",
            why="Narrow tuning forgets what it does not practise. The adapter of every epoch is kept: try an earlier one.",
            effect="less learned is less forgotten: the two lie on one curve",
            source="D. Biderman et al., LoRA Learns Less and Forgets Less, 2024",
            change="finetune:\n  epochs: 1\n  rank: 8",
        ),
    )


def _more_data(case: _Case) -> _Remedy | None:
    if case.about != "quality" or case.record.kind == "url":
        return None
    return _Remedy(
        0.7,
        Advice(
            remedy="Teach it more: more examples first, then epochs or rank",
            why=f"{case.binding.sentence}.",
            effect="1,000 well chosen examples were enough to teach a 65 B model how to answer",
            source="C. Zhou et al., LIMA, 2023",
            change="finetune:\n  limit: null\n  epochs: 2",
        ),
    )


def _failures(case: _Case) -> _Remedy | None:
    if case.about != "error_rate" or not case.stage.failures:
        return None
    most = max(case.stage.failures, key=lambda name: case.stage.failures[name])
    return _Remedy(
        0.1,
        Advice(
            remedy=f"Find out why requests fail with {most}",
            why=f"{case.stage.failures[most]} of {sum(case.stage.failures.values())} failures are of this class.",
            effect="the server's log tells the cause; an error rate is brought down there, not by more hardware",
            source="this run",
        ),
    )


_REMEDIES: tuple[Callable[[_Case], _Remedy | None], ...] = (
    _merge, _quantize, _distil, _prune, _fewer_tokens, _shorter_prompt, _engine, _replicas,
    _gentler_quantization, _milder_tuning, _more_data, _failures,
)  # fmt: skip


def worth_it(variant: VariantSummary, binding: Objective, summary: Summary) -> str | None:
    """The question that is left to people where quality rose and what binds got worse: what it gains, and what it costs."""
    base = next((v for v in summary.variants if v.variant == summary.baseline), None)
    gain = variant.differences.get("quality")
    stage = next((s for s in variant.stages if s.stage == variant.judged_stage), None)
    if base is None or stage is None or gain is None or not gain.absolute.value or gain.absolute.value <= 0:
        return None
    metric, label, unit = binding.metric, binding.label, binding.unit
    if binding.kind == "budget":
        metric, label, unit = "cost_per_request", "cost per request", "$"
    worse = stage.differences.get(metric) or variant.differences.get(metric)
    rise = worse.relative.value if worse else None
    if binding.kind == "quality" or rise is None or rise < 0.02:
        return None
    quality = [v.metrics["quality"].value or 0.0 for v in (base, variant)]
    now = (stage.metrics.get(metric) or variant.metrics[metric]).value or 0.0
    before, after = quantity(now / (1 + rise), unit), quantity(now, unit)
    what = label.removesuffix(f" {metric.rpartition('_')[2]}")
    price = f"{rise + 1:.2g} times the {what}" if rise >= 1 else f"{change(rise)} {what}"
    return (
        f"Quality goes from {percent(quality[0])} to {percent(quality[1])} and {label} from {before} to {after}: "
        f"is {points(gain.absolute.value)} of quality worth {price}?"
    )
