"""The task's score during training: the model answers held-out questions greedily, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.tokens import ExampleTokens

Scorer = Callable[[str, str], float]
"""From answer and reference to 0..1. It must be picklable."""


@dataclass(frozen=True)
class TaskScore:
    """The mean score of a model over `heldout`.

    An answer may be as long as the longest reference.
    """

    scorer: Scorer
    heldout: Sequence[ExampleTokens]
    tokenizer: Any
    pad_token: int
    batch_size: int

    def __call__(self, model: Any) -> float:
        """The model's mean score, 0..1."""
        longest = max(len(t.completion) for t in self.heldout)
        by_length = sorted(self.heldout, key=lambda t: len(t.prompt))
        batches = [
            by_length[i : i + self.batch_size] for i in range(0, len(by_length), self.batch_size)
        ]
        answers = [answer for batch in batches for answer in self._answers(model, batch, longest)]
        scores = [
            self.scorer(answer, t.answer) for answer, t in zip(answers, by_length, strict=True)
        ]
        return sum(scores) / len(scores)

    def _answers(self, model: Any, batch: Sequence[ExampleTokens], longest: int) -> list[str]:
        import torch

        width = max(len(t.prompt) for t in batch)
        ids = torch.tensor([[self.pad_token] * (width - len(t.prompt)) + t.prompt for t in batch])
        mask = torch.tensor([[0] * (width - len(t.prompt)) + [1] * len(t.prompt) for t in batch])
        was_training = model.training
        model.eval()
        with torch.no_grad():
            generated = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=longest,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.pad_token,
            )
        model.train(was_training)
        answers: list[str] = self.tokenizer.batch_decode(
            generated[:, width:], skip_special_tokens=True
        )
        return answers
