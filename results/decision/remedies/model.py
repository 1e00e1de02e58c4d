"""Remedies that make the model cheaper to compute: merge, quantize, prune, distil."""

from __future__ import annotations

from msgspec.structs import replace

from results.decision.binding_case import BindingCase, Remedy
from results.decision.patch import Patch
from results.decision.work import RequestWork, TimeParts
from results.summary import Advice, StageSummary

_MERGED = RequestWork(decode=0.6, prefill=0.6)
_MADE = ("adapter", "merge", "quantize", "prune", "distil", "url")
_SMOOTHQUANT = "G. Xiao et al., SmoothQuant, 2022 (speed)"
_GROMOV = "A. Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers, 2024"
_SCORES = "E. Kurtic et al., Give Me BF16 or Give Me Death?, 2024 (score)"


def merge(case: BindingCase) -> Remedy | None:
    """Merges a served adapter, where a faster model would help."""
    if case.record.kind != "adapter" or not case.hardware:
        return None
    work, source = _merging(case)
    return Remedy(
        "merge",
        case.factor(work),
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
            source=source,
        ),
        case.changed("merged", merge=case.weights),
        work=work,
    )


def _merging(case: BindingCase) -> tuple[RequestWork, str]:
    """What merging a served adapter does to the work, and who says so."""
    if (measured := _base_speed(case)) is not None:
        return measured, f"this run: the speed of {case.inputs.baseline} by token"
    source = "E. J. Hu et al., LoRA, 2021: merged weights have no inference latency of their own"
    return _MERGED, source


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


def _made_anew(
    case: BindingCase, kind: str, work: RequestWork, words: Advice, patch: Patch, *, keeps: float
) -> Remedy:
    """A remedy that makes another model, with its `work`; a served adapter is merged in it."""
    if case.record.kind == "adapter":
        merged, source = _merging(case)
        work = merged.then(work)
        words = replace(words, source=f"{words.source}; of the merge {source}")
    return Remedy(kind, case.factor(work), words, patch, keeps, work)


def _quantized(
    case: BindingCase, method: str, suffix: str, work: RequestWork, words: Advice, *, keeps: float
) -> Remedy | None:
    """Quantizes a model in full precision, where a faster one would help."""
    if case.record.kind in ("quantized", "url") or not case.hardware:
        return None
    patch = case.changed(suffix, quantize=method)
    return _made_anew(case, f"quantize {method}", work, words, patch, keeps=keeps)


def eight_bits(case: BindingCase) -> Remedy | None:
    """Quantizes weights and activations to 8 bits, on any machine."""
    words = Advice(
        remedy="Quantize: 8-bit weights and activations, or 4-bit weights",
        why=(
            "Decoding reads every weight for every token; fewer bytes are read faster, and "
            "8-bit products are cheaper."
        ),
        effect=(
            "up to 1.56 times the speed and half the memory with 8 bits; well tuned, it costs "
            "1 to 3 % of the score"
        ),
        source=f"{_SMOOTHQUANT}; {_SCORES}",
    )
    work = RequestWork(decode=0.64, prefill=0.64)
    return _quantized(case, "w8a8-int8", "int8", work, words, keeps=0.98)


def fp8(case: BindingCase) -> Remedy | None:
    """Quantizes to FP8, in which only accelerators compute."""
    if not case.inputs.settings.accelerated:
        return None
    words = Advice(
        remedy="Quantize to FP8",
        why="An accelerator that computes in FP8 needs no calibration for it.",
        effect="half the memory and up to 1.6 times the throughput, with hardly any loss",
        source=f"vLLM's documentation, FP8 W8A8 (speed); {_SCORES}",
    )
    work = RequestWork(decode=0.625, prefill=0.625)
    return _quantized(case, "fp8-dynamic", "fp8", work, words, keeps=0.995)


def four_bits(case: BindingCase) -> Remedy | None:
    """Quantizes weights to 4 bits, where memory limits decoding: on accelerators.

    CPUs unpack 4 bits at a cost.
    """
    if not case.inputs.settings.accelerated:
        return None
    words = Advice(
        remedy="Quantize the weights to 4 bits",
        why="Decoding reads every weight for every token, and a quarter of the bytes is left.",
        effect="up to 3.9 times the speed of decoding with 16 to 32 requests at a time",
        source=f"E. Frantar et al., MARLIN, 2024 (speed); {_SCORES}",
    )
    return _quantized(case, "w4a16", "int4", RequestWork(decode=0.4), words, keeps=0.97)


def prune(case: BindingCase) -> Remedy | None:
    """Prunes a quarter of the layers of a model that dyno serves and that has all of them."""
    if case.record.kind == "url" or not case.hardware or "prune" in case.keys:
        return None
    words = Advice(
        remedy="Prune layers, then tune again (layer pruning)",
        why=(
            "Latency goes with the number of layers, and the deeper ones of a chat model "
            "change an answer little."
        ),
        effect=(
            "up to half of the layers went with little loss in answering questions, once "
            "healed by a short fine-tune"
        ),
        source=_GROMOV,
    )
    patch = case.changed("pruned", adapter=None, merge=None, prune="25%")
    work = RequestWork(decode=0.75, prefill=0.75)
    return _made_anew(case, "prune 25%", work, words, patch, keeps=0.95)


def distil(case: BindingCase) -> Remedy | None:
    """Distils into half of the layers, where time or cost binds."""
    if not (case.slow or case.about == "cost") or "distil" in case.keys:
        return None
    words = Advice(
        remedy="Distil to a smaller model (distillation)",
        why=(
            "On a narrow task a small model that learns from this one's answers keeps most of "
            "its quality."
        ),
        effect=(
            "1.6 times the speed at 97 % of the quality with 40 % fewer weights, in the "
            "example that is best known"
        ),
        source="V. Sanh et al., DistilBERT, 2019",
    )
    elsewhere = ("url", "model", "api_key_env", "request") if case.record.kind == "url" else ()
    gone = dict.fromkeys(("adapter", "merge", *elsewhere))
    patch = case.changed("student", **gone, prune="50%", distil=case.variant.variant)
    work = RequestWork(decode=0.625, prefill=0.625)
    return _made_anew(case, "distil 50%", work, words, patch, keeps=0.97)
