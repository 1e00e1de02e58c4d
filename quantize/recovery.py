"""Measures what quantizing lost: both models read the same held-out texts, compared token by token.

The idea of recovery (quantized score / unquantized score) is that of E. Kurtic et al., "Give Me
BF16 or Give Me Death?", 2024. Nothing is generated: reading an answer shows whether greedy decoding
would give it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from foundation.data.examples import Example, PromptStyle, sample
from foundation.files.atomic_write import write_whole
from foundation.models.loading import load_causal_lm
from foundation.models.model import ModelRef
from foundation.processor import fast_dtype
from foundation.progress import Progress
from foundation.quiet_libraries import quiet_libraries
from foundation.run.recovery import (
    ENOUGH,
    FILE,
    ModelPair,
    Predictions,
    Recovery,
    RecoveryRatio,
)
from quantize.layers import count_weights
from quantize.templated_texts import TemplatedText, tokenize

if TYPE_CHECKING:
    import torch

MAX_TOKENS = 2048
"""Of held-out text in all: about 10 s for both models at 135 M parameters on 2 CPU cores."""

MAX_TEXTS = 256


def measure_recovery(
    source: ModelRef,
    quantized: ModelRef,
    heldout: Sequence[Example],
    style: PromptStyle | None,
    progress: Progress,
) -> Recovery:
    """Compare both models on a bounded sample of `heldout`.

    Writes `recovery.json` beside the quantized checkpoint.
    """
    quiet_libraries()
    texts = _bounded(tokenize(source, sample(heldout, MAX_TEXTS), style, MAX_TOKENS))
    progress.stage(f"recovery {quantized.path.name.removesuffix('.partial')}", len(texts), "text")
    models = [_load(model.path) for model in (source, quantized)]
    comparisons = []
    for text in texts:
        comparisons.append(_compare(models, text))
        progress.advance(1)
    recovery = summarize(comparisons, texts, _sizes(source, quantized))
    encoded = msgspec.json.format(msgspec.json.encode(recovery), indent=2)
    write_whole(quantized.path / FILE, encoded + b"\n")
    return recovery


def low_recovery(recovery: RecoveryRatio, tokens: int) -> str | None:
    """The warning for a recovery on so many held-out tokens; None where it is high enough."""
    if recovery.value >= ENOUGH:
        return None
    low, high = recovery.low, recovery.high
    interval = "" if low is None or high is None else f" ({low:.1%} to {high:.1%})"
    unsettled = ": too few to settle it" if high is None or high >= ENOUGH else ""
    return (
        f"recovery is {recovery.value:.1%}{interval}, under {ENOUGH:.0%}, "
        f"on {tokens} held-out tokens{unsettled}"
    )


def _bounded(texts: Sequence[TemplatedText]) -> list[TemplatedText]:
    """The first texts, as many as fit whole into MAX_TOKENS."""
    ends = accumulate(len(text.ids) for text in texts)
    return [text for text, end in zip(texts, ends, strict=True) if end <= MAX_TOKENS]


@dataclass(frozen=True)
class TextComparison:
    """How both models predict one text, at every place but the first: arrays of length tokens - 1.

    `log_p` and `log_q` are the log-probabilities of the token there in the unquantized and the
    quantized model, `kl` the divergence of q from p. `agree` marks the places where both find the
    same token likeliest, `right_p` and `right_q` those where it is the text's own. `layer_error` is
    (layers, tokens).
    """

    log_p: torch.Tensor
    log_q: torch.Tensor
    kl: torch.Tensor
    agree: torch.Tensor
    right_p: torch.Tensor
    right_q: torch.Tensor
    layer_error: torch.Tensor


def _load(folder: Path) -> Any:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if device == "cpu" and fast_dtype() == "float32" else "auto"
    return load_causal_lm(folder, dtype=dtype, device_map={"": device}).eval()


def _compare(models: Sequence[Any], text: TemplatedText) -> TextComparison:
    import torch

    with torch.no_grad():
        ids = torch.tensor([text.ids], device=models[0].device)
        outputs = [model(input_ids=ids, output_hidden_states=True) for model in models]
        next_token = ids[0, 1:, None]
        log_p, log_q = (output.logits[0, :-1].float().log_softmax(dim=-1) for output in outputs)
        best_p, best_q = (scores.argmax(dim=-1, keepdim=True) for scores in (log_p, log_q))
        states = [torch.stack(output.hidden_states[1:])[:, 0].float() for output in outputs]
        error = (states[1] - states[0]).norm(dim=-1) / states[0].norm(dim=-1).clamp_min(1e-12)

        def at_places(values: torch.Tensor) -> torch.Tensor:
            return values.flatten().double().cpu()

        return TextComparison(
            log_p=at_places(log_p.gather(1, next_token)),
            log_q=at_places(log_q.gather(1, next_token)),
            kl=at_places((log_p.exp() * (log_p - log_q)).sum(dim=-1)),
            agree=at_places(best_p == best_q),
            right_p=at_places(best_p == next_token),
            right_q=at_places(best_q == next_token),
            layer_error=error.double().cpu(),
        )


def summarize(
    comparisons: Sequence[TextComparison],
    texts: Sequence[TemplatedText],
    sizes: tuple[ModelPair, ModelPair],
) -> Recovery:
    """The recovery over all texts. `sizes`: bytes of both models, and bytes per weight."""
    import torch

    shared = _shared_beginnings(texts)
    answers = [torch.arange(1, len(text.ids)) >= text.answer for text in texts]
    own = [
        torch.arange(1, len(text.ids)) >= known for text, known in zip(texts, shared, strict=True)
    ]
    errors = [c.layer_error[:, known:] for c, known in zip(comparisons, shared, strict=True)]
    has_answers = any(bool(mask.any()) for mask in answers)
    all_text = _predictions(comparisons, own)
    answered = _predictions(comparisons, answers) if has_answers else None
    ratio = _recovery_ratio(comparisons, answers if has_answers else own)
    return Recovery(
        texts=len(texts),
        recovery=ratio,
        all_text=all_text,
        answers=answered,
        exact_answers=_exact_answers(comparisons, answers) if has_answers else None,
        layer_error=[round(float(error), 6) for error in torch.cat(errors, dim=1).mean(dim=1)],
        bytes=sizes[0],
        bytes_per_weight=sizes[1],
        warning=low_recovery(ratio, (answered or all_text).tokens),
    )


def _shared_beginnings(texts: Sequence[TemplatedText]) -> list[int]:
    """The number of tokens with which each text begins like another text that is counted before it.

    They count once: a chat template and a question are half of many texts, and one sample.
    """
    shared = [0] * len(texts)
    for before, after in pairwise(sorted(range(len(texts)), key=lambda i: texts[i].ids)):
        pairs = zip(texts[before].ids, texts[after].ids, strict=False)
        shared[after] = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared


def _predictions(
    comparisons: Sequence[TextComparison], masks: Sequence[torch.Tensor]
) -> Predictions:
    import torch

    def joined(of: Callable[[TextComparison], torch.Tensor]) -> torch.Tensor:
        return torch.cat([of(c)[mask] for c, mask in zip(comparisons, masks, strict=True)])

    log_p, log_q = joined(lambda c: c.log_p), joined(lambda c: c.log_q)
    return Predictions(
        tokens=log_p.numel(),
        perplexity=ModelPair(math.exp(-float(log_p.mean())), math.exp(-float(log_q.mean()))),
        kl_divergence=max(0.0, float(joined(lambda c: c.kl).mean())),
        top1_agreement=float(joined(lambda c: c.agree).mean()),
        probability=ModelPair(float(log_p.exp().mean()), float(log_q.exp().mean())),
    )


def _exact_answers(
    comparisons: Sequence[TextComparison], answers: Sequence[torch.Tensor]
) -> ModelPair:
    """The share of answers whose every token each model finds likeliest."""
    answered = [(c, mask) for c, mask in zip(comparisons, answers, strict=True) if mask.any()]
    exact_p = sum(bool(c.right_p[mask].all()) for c, mask in answered)
    exact_q = sum(bool(c.right_q[mask].all()) for c, mask in answered)
    return ModelPair(exact_p / len(answered), exact_q / len(answered))


def _recovery_ratio(
    comparisons: Sequence[TextComparison], masks: Sequence[torch.Tensor]
) -> RecoveryRatio:
    pairs = list(zip(comparisons, masks, strict=True))
    return _ratio(
        [float(c.log_q[mask].exp().sum()) for c, mask in pairs],
        [float(c.log_p[mask].exp().sum()) for c, mask in pairs],
    )


def _ratio(above: Sequence[float], below: Sequence[float]) -> RecoveryRatio:
    """Sum over sum, with the delta method's interval for pairs.

    W. G. Cochran, Sampling Techniques, 1977, section 6.4.
    """
    n, total = len(below), sum(below)
    value = sum(above) / total
    if n < 2:
        return RecoveryRatio(value, None, None)
    variance = sum((a - value * b) ** 2 for a, b in zip(above, below, strict=True)) / (n - 1)
    half_width = 1.96 * math.sqrt(n * variance) / total
    return RecoveryRatio(value, value - half_width, value + half_width)


def _sizes(source: ModelRef, quantized: ModelRef) -> tuple[ModelPair, ModelPair]:
    before, after, weights = source.size_bytes(), quantized.size_bytes(), count_weights(source)
    return ModelPair(before, after), ModelPair(before / weights, after / weights)
