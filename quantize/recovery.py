"""What quantizing lost: both models read the same held-out texts, and their predictions are compared token by token.

The idea of recovery (quantized score / unquantized score) and its 99 % are those of E. Kurtic et al., "Give Me BF16 or Give Me
Death?", 2024. Nothing is generated: whether greedy decoding would give an answer follows from reading it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.data.examples import Example, PromptStyle, sample
from foundation.files.atomic_write import write_whole
from foundation.models.loading import load_causal_lm
from foundation.models.model import ModelRef
from foundation.processor import fast_dtype
from foundation.progress import Progress
from foundation.quiet_libraries import quiet_libraries
from quantize.layers import count_weights
from quantize.templated_texts import Text, tokenize

if TYPE_CHECKING:
    import torch

FILE = "recovery.json"
ENOUGH = 0.99
MAX_TOKENS = (
    2048  # of held-out text in all: about 10 s for both models at 135 M parameters on 2 CPU cores
)
MAX_TEXTS = 256


@dataclass(frozen=True)
class Both:
    """One number of either model."""

    unquantized: float
    quantized: float


@dataclass(frozen=True)
class Share:
    """A ratio with its 95 % interval (delta method over texts; None where there are fewer than 2)."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Predictions:
    """How the next token was predicted, at `tokens` places; what several texts begin with is one of them.

    `kl_divergence`: of the quantized model's distribution from the unquantized one's, nats a token, mean over places.
    `top1_agreement`: the share of places where both hold the same token for the likeliest. `probability`: that given to the
    token that stands there, mean.
    """

    tokens: int
    perplexity: Both
    kl_divergence: float
    top1_agreement: float
    probability: Both


@dataclass(frozen=True)
class Recovery:
    """`recovery.json`.

    `recovery`: the mean probability of the right next token over the answers (over all text where there are none), quantized
    over unquantized: a score that needs few tokens, since it moves with every one of them. `exact_answers`: the share of answers
    that greedy decoding gives word for word. `layer_error`: by layer, how far its output is from the unquantized model's, as a
    share of that output's length (mean over tokens). Bytes are those of the weight files, per weight of the unquantized model.
    `warning` stands there too.
    """

    texts: int
    recovery: Share
    all_text: Predictions
    answers: Predictions | None
    exact_answers: Both | None
    layer_error: list[float]
    bytes: Both
    bytes_per_weight: Both

    @property
    def warning(self) -> str | None:
        """What a person should know, None where recovery is high enough."""
        if self.recovery.value >= ENOUGH:
            return None
        within = self.recovery
        interval = (
            ""
            if within.low is None or within.high is None
            else f" ({within.low:.1%} to {within.high:.1%})"
        )
        places = (self.answers or self.all_text).tokens
        open_ = ": too few to settle it" if within.high is None or within.high >= ENOUGH else ""
        return f"recovery is {within.value:.1%}{interval}, under {ENOUGH:.0%}, on {places} held-out tokens{open_}"

    def __str__(self) -> str:
        told = [f"recovery {self.recovery.value:.1%}", f"KL {self.all_text.kl_divergence:.4f}"]
        told += [f"top-1 agreement {self.all_text.top1_agreement:.1%}"]
        told += [
            f"perplexity {self.all_text.perplexity.unquantized:.2f} -> {self.all_text.perplexity.quantized:.2f}"
        ]
        return ", ".join([*told, f"{self.bytes_per_weight.quantized:.2f} bytes a weight"])


def measure_recovery(
    source: ModelRef,
    quantized: ModelRef,
    heldout: Sequence[Example],
    style: PromptStyle | None,
    progress: Progress,
) -> Recovery:
    """Compare both on a bounded sample of `heldout` and write `recovery.json` beside the quantized checkpoint."""
    quiet_libraries()
    texts = _bounded(tokenize(source, sample(heldout, MAX_TEXTS), style, MAX_TOKENS))
    progress.stage(f"recovery {quantized.path.name.removesuffix('.partial')}", len(texts), "text")
    models = [_load(model.path) for model in (source, quantized)]
    places = []
    for text in texts:
        places.append(_compare(models, text))
        progress.advance(1)
    found = summarize(places, texts, _sizes(source, quantized))
    written = {"schema_version": 1, **asdict(found), "warning": found.warning}
    write_whole(quantized.path / FILE, json.dumps(written, indent=2) + "\n")
    return found


def _bounded(texts: Sequence[Text]) -> list[Text]:
    """The first texts, as many as MAX_TOKENS holds whole."""
    ends = accumulate(len(text.ids) for text in texts)
    return [text for text, end in zip(texts, ends, strict=True) if end <= MAX_TOKENS]


@dataclass(frozen=True)
class Places:
    """One text, at every place but the first: log-probability of the token there by either model, KL divergence, agreement.

    `right`: whether the model holds that token for the likeliest. Arrays of length tokens - 1; `layer_error` (layers, tokens).
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


def _compare(models: Sequence[Any], text: Text) -> Places:
    import torch

    with torch.no_grad():
        ids = torch.tensor([text.ids], device=models[0].device)
        outputs = [model(input_ids=ids, output_hidden_states=True) for model in models]
        next_token = ids[0, 1:, None]
        log = [output.logits[0, :-1].float().log_softmax(dim=-1) for output in outputs]
        best = [scores.argmax(dim=-1, keepdim=True) for scores in log]
        states = [torch.stack(output.hidden_states[1:])[:, 0].float() for output in outputs]
        error = (states[1] - states[0]).norm(dim=-1) / states[0].norm(dim=-1).clamp_min(1e-12)
        kl = (log[0].exp() * (log[0] - log[1])).sum(dim=-1)
        per_place = [
            log[0].gather(1, next_token),
            log[1].gather(1, next_token),
            kl[:, None],
            best[0] == best[1],
        ]
        per_place += [best[0] == next_token, best[1] == next_token]
        return Places(*(values[:, 0].double().cpu() for values in per_place), error.double().cpu())


def summarize(
    places: Sequence[Places], texts: Sequence[Text], sizes: tuple[Both, Both]
) -> Recovery:
    """The report from what was seen at each place of each text."""
    import torch

    shared = _shared(texts)
    answers = [torch.arange(1, len(text.ids)) >= text.answer for text in texts]
    everywhere = [
        torch.arange(1, len(text.ids)) >= known for text, known in zip(texts, shared, strict=True)
    ]
    answered = [(p, mask) for p, mask in zip(places, answers, strict=True) if mask.any()]
    layers = torch.cat(
        [p.layer_error[:, known:] for p, known in zip(places, shared, strict=True)], dim=1
    ).mean(dim=1)
    scored = answers if answered else everywhere
    exact = [(bool(p.right_p[mask].all()), bool(p.right_q[mask].all())) for p, mask in answered]
    return Recovery(
        texts=len(texts),
        recovery=_ratio(
            [float(p.log_q[mask].exp().sum()) for p, mask in zip(places, scored, strict=True)],
            [float(p.log_p[mask].exp().sum()) for p, mask in zip(places, scored, strict=True)],
        ),
        all_text=_predictions(places, everywhere),
        answers=_predictions(places, answers) if answered else None,
        exact_answers=Both(*(sum(side) / len(exact) for side in zip(*exact, strict=True)))
        if exact
        else None,
        layer_error=[round(float(error), 6) for error in layers],
        bytes=sizes[0],
        bytes_per_weight=sizes[1],
    )


def _shared(texts: Sequence[Text]) -> list[int]:
    """With how many tokens each text begins as one that is counted before it does.

    They are seen once, however often they are read: a chat template and a question are half of many a text, and one sample.
    """
    found = [0] * len(texts)
    for before, after in pairwise(sorted(range(len(texts)), key=lambda i: texts[i].ids)):
        both = zip(texts[before].ids, texts[after].ids, strict=False)
        found[after] = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))
    return found


def _predictions(places: Sequence[Places], masks: Sequence[torch.Tensor]) -> Predictions:
    import torch

    def joined(name: str) -> torch.Tensor:
        return torch.cat([getattr(p, name)[mask] for p, mask in zip(places, masks, strict=True)])

    log_p, log_q = joined("log_p"), joined("log_q")
    return Predictions(
        tokens=log_p.numel(),
        perplexity=Both(*(math.exp(-float(log.mean())) for log in (log_p, log_q))),
        kl_divergence=max(0.0, float(joined("kl").mean())),
        top1_agreement=float(joined("agree").mean()),
        probability=Both(*(float(log.exp().mean()) for log in (log_p, log_q))),
    )


def _ratio(above: Sequence[float], below: Sequence[float]) -> Share:
    """Sum over sum, with the delta method's interval for pairs (W. G. Cochran, Sampling Techniques, 1977, 6.4)."""
    n, total = len(below), sum(below)
    value = sum(above) / total
    if n < 2:
        return Share(value, None, None)
    spread = sum((a - value * b) ** 2 for a, b in zip(above, below, strict=True)) / (n - 1)
    reach = 1.96 * math.sqrt(n * spread) / total
    return Share(value, value - reach, value + reach)


def _sizes(source: ModelRef, quantized: ModelRef) -> tuple[Both, Both]:
    sizes = [model.size_bytes() for model in (source, quantized)]
    weights = count_weights(source)
    return Both(*sizes), Both(*(size / weights for size in sizes))
