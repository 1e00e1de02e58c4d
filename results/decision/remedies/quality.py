"""Remedies for a score that is too low, or lower than the baseline's."""

from __future__ import annotations

from results.decision.binding_case import BindingCase, Remedy
from results.summary import Advice

_BITS_KEPT = 0.98


def gentler_quantization(case: BindingCase) -> Remedy | None:
    """Quantizes less: 8 bits instead of 4, else not at all."""
    if case.about not in ("quality", "change") or case.record.kind != "quantized":
        return None
    # Eight bits are less only where four are recorded; not to quantize always is.
    to_eight = case.record.weight_bits == 4
    factor = _BITS_KEPT
    source = "Neural Magic's model card of Meta-Llama-3.1-8B-Instruct-quantized.w8a8, 2024"
    full = case.measured.get(case.record.unquantized or "")
    scores = [v.metrics["quality"].value for v in (case.variant, full) if v is not None]
    if len(scores) == 2 and scores[0] and scores[1]:
        factor, source = scores[0] / scores[1], f"this run: the score of {case.record.unquantized}"
    return Remedy(
        "gentler quantization",
        factor,
        Advice(
            remedy="Quantize less",
            why=(
                "What quality was lost against the merged model was lost in rounding: 8 bits "
                "round less than 4."
            ),
            effect=(
                "all that rounding cost; with 8 bits Llama 3.1 8B keeps 98.8 to 105 % of its scores"
            ),
            source=source,
        ),
        case.changed("int8", quantize="w8a8-int8")
        if to_eight
        else case.changed("merged", quantize=None),
        keeps=1 / factor,
    )


def milder_tuning(case: BindingCase) -> Remedy | None:
    """Tunes more gently, where tuning forgot something."""
    if case.about != "change" or not case.trained_here:
        return None
    epochs, rank = _trained(case, "epochs", 1), _trained(case, "rank", 16)
    milder = {"epochs": max(1, epochs // 2), "rank": max(1, rank // 2)}
    if milder == {"epochs": epochs, "rank": rank}:
        return None
    return Remedy(
        f"milder tuning: epochs {milder['epochs']}, rank {milder['rank']}",
        None,
        Advice(
            remedy="Tune more gently: fewer epochs, a lower rank, or general examples mixed in",
            why=(
                "Narrow tuning forgets what it does not practise. The adapter of every epoch is "
                "kept: try an earlier one."
            ),
            effect="less learned is less forgotten: the two lie on one curve",
            source="D. Biderman et al., LoRA Learns Less and Forgets Less, 2024",
        ),
        case.changed("milder", finetune=case.own("finetune", **milder)),
    )


def more_training(case: BindingCase) -> Remedy | None:
    """Trains more, where the score is under its floor."""
    if case.about != "quality" or not case.trained_here:
        return None
    limit = _trained(case, "limit", 0)
    more = {"limit": 2 * limit} if limit else {"epochs": 2 * _trained(case, "epochs", 1)}
    return Remedy(
        "more training: " + ", ".join(f"{key} {number}" for key, number in more.items()),
        None,
        Advice(
            remedy="Teach it more: more examples first, then epochs or rank",
            why=f"{case.binding.sentence}.",
            effect="1,000 well chosen examples were enough to teach a 65 B model how to answer",
            source="C. Zhou et al., LIMA, 2023",
        ),
        case.changed("taught", finetune=case.own("finetune", **more)),
    )


def _trained(case: BindingCase, key: str, usual: int) -> int:
    """A number of the variant's own training, else of the experiment's, else the usual."""
    own, shared = case.keys.get("finetune"), case.inputs.settings.finetune
    for section in (own, shared):
        if isinstance(section, dict) and isinstance(number := section.get(key), int):
            return number
    return usual
