"""The trainer: TRL's, without the work whose result nobody uses.

Short answers to long prompts leave three things to save, none of which changes what is computed:

- Prompts of one style begin alike. Their common tokens run through the model once a batch, and every row attends to those keys
  and values; gradients flow back through them as if each row had its own.
- Rows are padded on the left, so that the completions line up at the end, and the output head is asked for those positions only.
  TRL does that on CUDA; elsewhere its fused head scores every position against the whole vocabulary.
- Batches are of similar length (`train_sampling_strategy`), so there is little padding.

Imports torch and TRL: import it inside the function that trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from trl import SFTTrainer

from finetune.data import Tokens
from foundation.errors import SystemFailed

IGNORED = -100


class LeftPadded:
    """Rows to a batch: shared prefix cut off, padded on the left. `example`, an index into the data, rides along for messages."""

    def __init__(self, pad_token: int, prefix: int) -> None:
        self.pad_token = pad_token
        self.prefix = prefix

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids` and `labels` are (rows, longest own part); `attention_mask` also has the prefix before it."""
        own = [len(row["input_ids"]) - self.prefix for row in rows]
        width = max(own)
        ids = torch.full((len(rows), width), self.pad_token)
        labels = torch.full((len(rows), width), IGNORED)
        mask = torch.zeros((len(rows), self.prefix + width), dtype=torch.long)
        mask[:, : self.prefix] = 1
        for i, (row, length) in enumerate(zip(rows, own, strict=True)):
            ids[i, width - length :] = torch.tensor(row["input_ids"][self.prefix :])
            labels[i, width - length :] = torch.tensor(row["labels"][self.prefix :])
            mask[i, self.prefix + width - length :] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, self.prefix :]
        example = torch.tensor([row["example"] for row in rows])
        return {"input_ids": ids, "labels": labels, "attention_mask": mask, "position_ids": positions, "example": example}


class CompletionTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer over `LeftPadded` batches. `tokens_seen` counts non-padding input tokens, the prefix once for every row."""

    def __init__(self, *, prefix: list[int], examples: Sequence[Tokens], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prefix = prefix
        self.examples = examples
        self.tokens_seen = 0

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        which = inputs.pop("example")
        if model.training:
            self.tokens_seen += int(inputs["attention_mask"].sum())
        if self.prefix:
            inputs["past_key_values"] = self._prefix_cache(model, inputs["input_ids"])
        labels = inputs["labels"]
        first = int((labels != IGNORED).any(dim=0).int().argmax())
        if labels.is_cuda or first < labels.size(1) // 2:
            # Long completions want TRL's fused head, which never holds all their logits at once.
            loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        else:
            loss = _loss_at_the_end(model, inputs, first, num_items_in_batch)
        if model.training and not torch.isfinite(loss):
            self._stop_at(which, loss.item())
        return loss

    def _prefix_cache(self, model: torch.nn.Module, ids: torch.Tensor) -> DynamicCache:
        prefix = torch.tensor([self.prefix], device=ids.device)
        cache = model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(ids.size(0))
        return cache

    def _stop_at(self, which: torch.Tensor, loss: float) -> None:
        lines = ", ".join(self.examples[i].where for i in which.tolist())
        raise SystemFailed(
            f"training stopped: the loss is {loss} at step {self.state.global_step + 1}; lower finetune.learning_rate "
            f"({self.args.learning_rate:g}) or finetune.max_grad_norm, or look at the batch's examples",
            detail=f"the batch: {lines}",
        )


def _loss_at_the_end(
    model: torch.nn.Module, inputs: dict[str, Any], first: int, num_items_in_batch: torch.Tensor | int | None
) -> torch.Tensor:
    """Cross-entropy of the labels, whose first column is `first`: summed over the batch, over the tokens of the whole step."""
    labels = inputs.pop("labels")[:, first:]
    width = first + labels.size(1)
    # A tensor of positions rather than a count: it makes the rows contiguous, and the head one matrix product.
    before = torch.arange(first - 1, width - 1)
    logits = model(**inputs, logits_to_keep=before).logits
    total = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (num_items_in_batch if num_items_in_batch is not None else (labels != IGNORED).sum())


def can_share_prefix(model: Any) -> bool:
    """Whether the cache is plain keys and values in every layer: sliding windows and recurrent states can't be shared so."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
