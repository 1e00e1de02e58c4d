"""Remedies that make the model cheaper to compute: merge, quantize, prune, distil."""

from __future__ import annotations

from results.decision.binding_case import BindingCase, Remedy
from results.decision.work import RequestWork, TimeParts
from results.summary import Advice, StageSummary

_MERGED = RequestWork(decode=0.6, prefill=0.6)
_MADE = ("adapter", "merge", "quantize", "prune", "distil", "url")
_SMOOTHQUANT = "G. Xiao et al., SmoothQuant, 2022 (speed)"
_GROMOV = "A. Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers, 2024"
_SCORES = "E. Kurtic et al., Give Me BF16 or Give Me Death?, 2024 (score)"


def merge(case: BindingCase) -> Remedy | None:
    """For a served adapter, where a faster model would help."""
    if case.record.kind != "adapter" or not case.hardware:
        return None
    work = _base_speed(case)
    return Remedy(
        "merge",
        case.factor(work or _MERGED),
        Advice(
            remedy="Merge the adapter into the base model",
            why=(
                "A served adapter adds its own matrix products to every layer, and turns off "
                "optimisations of the engine."
            ),
            effect=(
                "the speed of the base model; the adapter's cost is largest on a CPU and with "
                "small batches"
            ),
            source=_merge_source(case),
        ),
        case.changed("merged", merge=case.weights),
        work=work or _MERGED,
    )


def _merge_source(case: BindingCase) -> str:
    if _base_speed(case):
        return f"this run: the speed of {case.inputs.baseline} by token"
    return "E. J. Hu et al., LoRA, 2021: merged weights have no inference latency of their own"


def _base_speed(case: BindingCase) -> RequestWork | None:
    """The change to the speed of the baseline, where that is the variant's base model itself."""
    base = case.measured.get(case.inputs.baseline)
    stage = base.at_judged_stage if base else None
    keys = case.inputs.settings.variants.get(case.inputs.baseline)
    if stage is None or keys is None or any(key in keys for key in _MADE):
        return None
    if keys.get("model") != case.keys.get("model"):
        return None
    ours, theirs = _token_times(case.stage), _token_times(stage)
    if ours is None or theirs is None:
        return None
    # What is slower without the adapter is slower for another reason.
    return RequestWork(decode=min(1.0, theirs[0] / ours[0]), prefill=min(1.0, theirs[1] / ours[1]))


def _token_times(stage: StageSummary) -> tuple[float, float] | None:
    """The mean ms of an output token and of a prompt token; None where one is not known."""
    parts, tokens = TimeParts.of(stage), stage.metrics["input_tokens_mean"].value
    decode = stage.metrics["tpot_mean"].value
    if parts is None or not decode or not tokens or parts.prefill <= 0:
        return None
    return decode, parts.prefill / tokens


def _with_merge(case: BindingCase, work: RequestWork) -> RequestWork:
    """A change of the merged model's work, seen from a served adapter."""
    if case.record.kind != "adapter":
        return work
    return (_base_speed(case) or _MERGED).then(work)


def _after_merge(case: BindingCase, source: str) -> str:
    """The source of a change that includes the merge of a served adapter."""
    if case.record.kind != "adapter":
        return source
    return f"{source}; of the merge {_merge_source(case)}"


def eight_bits(case: BindingCase) -> Remedy | None:
    """For a model in full precision, where a faster one would help."""
    if case.record.kind in ("quantized", "url") or not case.hardware:
        return None
    work = _with_merge(case, RequestWork(decode=0.64, prefill=0.64))
    return Remedy(
        "quantize w8a8-int8",
        case.factor(work),
        Advice(
            remedy="Quantize: 8-bit weights and activations, or 4-bit weights",
            why=(
                "Decoding reads every weight for every token; fewer bytes are read faster, and "
                "8-bit products are cheaper."
            ),
            effect=(
                "up to 1.56 times the speed and half the memory with 8 bits; well tuned, it costs "
                "1 to 3 % of the score"
            ),
            source=_after_merge(case, f"{_SMOOTHQUANT}; {_SCORES}"),
        ),
        case.changed("int8", quantize="w8a8-int8"),
        keeps=0.98,
        work=work,
    )


def fp8(case: BindingCase) -> Remedy | None:
    """Only accelerators compute in FP8."""
    if not case.inputs.settings.accelerated or eight_bits(case) is None:
        return None
    work = _with_merge(case, RequestWork(decode=0.625, prefill=0.625))
    return Remedy(
        "quantize fp8-dynamic",
        case.factor(work),
        Advice(
            remedy="Quantize to FP8",
            why="An accelerator that computes in FP8 needs no calibration for it.",
            effect="half the memory and up to 1.6 times the throughput, with hardly any loss",
            source=_after_merge(case, f"vLLM's documentation, FP8 W8A8 (speed); {_SCORES}"),
        ),
        case.changed("fp8", quantize="fp8-dynamic"),
        keeps=0.995,
        work=work,
    )


def four_bits(case: BindingCase) -> Remedy | None:
    """Where decoding is bound by memory: on accelerators. CPUs unpack 4 bits at a cost."""
    if not case.inputs.settings.accelerated or eight_bits(case) is None:
        return None
    work = _with_merge(case, RequestWork(decode=0.4))
    return Remedy(
        "quantize w4a16",
        case.factor(work),
        Advice(
            remedy="Quantize the weights to 4 bits",
            why="Decoding reads every weight for every token, and a quarter of the bytes is left.",
            effect="up to 3.9 times the speed of decoding with 16 to 32 requests at a time",
            source=_after_merge(case, f"E. Frantar et al., MARLIN, 2024 (speed); {_SCORES}"),
        ),
        case.changed("int4", quantize="w4a16"),
        keeps=0.97,
        work=work,
    )


def prune(case: BindingCase) -> Remedy | None:
    """For a model of ours with all its layers."""
    if case.record.kind == "url" or not case.hardware or "prune" in case.keys:
        return None
    work = _with_merge(case, RequestWork(decode=0.75, prefill=0.75))
    return Remedy(
        "prune 25%",
        case.factor(work),
        Advice(
            remedy="Prune layers, then tune again (layer pruning)",
            why=(
                "Latency goes with the number of layers, and the deeper ones of a chat model "
                "change an answer little."
            ),
            effect=(
                "up to half of the layers went with little loss in answering questions, once "
                "healed by a short fine-tune"
            ),
            source=_after_merge(case, _GROMOV),
        ),
        case.changed("pruned", adapter=None, merge=None, prune="25%"),
        keeps=0.95,
        work=work,
    )


def distil(case: BindingCase) -> Remedy | None:
    """Where time or cost binds."""
    if not (case.slow or case.about == "cost") or "distil" in case.keys:
        return None
    work = _with_merge(case, RequestWork(decode=0.625, prefill=0.625))
    elsewhere = ("url", "model", "api_key_env", "request") if case.record.kind == "url" else ()
    gone = dict.fromkeys(("adapter", "merge", *elsewhere))
    return Remedy(
        "distil 50%",
        case.factor(work),
        Advice(
            remedy="Distil to a smaller model (distillation)",
            why=(
                "On a narrow task a small model that learns from this one's answers keeps most of "
                "its quality."
            ),
            effect=(
                "1.6 times the speed at 97 % of the quality with 40 % fewer weights, in the "
                "example that is best known"
            ),
            source=_after_merge(case, "V. Sanh et al., DistilBERT, 2019"),
        ),
        case.changed("student", **gone, prune="50%", distil=case.variant.variant),
        keeps=0.97,
        work=work,
    )
