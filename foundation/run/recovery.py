"""`recovery.json` beside a quantized checkpoint: what quantizing lost, written and read."""

from __future__ import annotations

from typing import Annotated

import msgspec

FILE = "recovery.json"
ENOUGH = 0.99
"""The recovery below which a report warns.

After E. Kurtic et al., "Give Me BF16 or Give Me Death?", 2024.
"""


class ModelPair(msgspec.Struct, frozen=True):
    """One number of each model."""

    unquantized: float
    quantized: float


class RecoveryRatio(msgspec.Struct, frozen=True):
    """A ratio with its 95 % interval (delta method over texts; None for fewer than 2)."""

    value: float
    low: float | None
    high: float | None


class Predictions(msgspec.Struct, frozen=True):
    """Predictions of the next token at `tokens` places; a beginning that texts share counts once.

    `kl_divergence` is that of the quantized model's distribution from the unquantized one's, nats a
    token, mean over places. `top1_agreement` is the share of places where both models find the same
    token likeliest. `probability` is the mean probability of the token that stands there.
    """

    tokens: int
    perplexity: ModelPair
    kl_divergence: float
    top1_agreement: float
    probability: ModelPair


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What quantizing lost on held-out texts.

    `recovery` is the mean probability of the right next token, quantized over unquantized, over the
    answers, or over all text where there are none. It needs few tokens, since every one of them
    moves it. `exact_answers` is the share of answers that greedy decoding gives word for word.
    `layer_error` is, by layer, the distance of its output from the unquantized model's over that
    output's length, mean over tokens. `bytes` are those of the weight files, also per weight of the
    unquantized model.
    """

    schema_version: int = 1
    texts: int
    recovery: RecoveryRatio
    all_text: Predictions
    answers: Predictions | None
    exact_answers: ModelPair | None
    layer_error: Annotated[list[float], msgspec.Meta(min_length=1)]
    bytes: ModelPair
    bytes_per_weight: ModelPair
    warning: str | None = None

    def __str__(self) -> str:
        text = self.all_text
        perplexity = text.perplexity
        return (
            f"recovery {self.recovery.value:.1%}, KL {text.kl_divergence:.4f}, "
            f"top-1 agreement {text.top1_agreement:.1%}, "
            f"perplexity {perplexity.unquantized:.2f} -> {perplexity.quantized:.2f}, "
            f"{self.bytes_per_weight.quantized:.2f} bytes a weight"
        )
