"""The trainer: TRL's, without the work whose result nobody uses.

Short answers to long prompts leave two things to save, none of which changes what is computed:

- Prompts of one style begin alike. Their common tokens run through the model once a batch, and every row attends to those keys
  and values; gradients flow back through them as if each row had its own.
- The output head is asked for the positions that are learned only. TRL does that on CUDA; elsewhere its fused head scores every
  position against the whole vocabulary.

Batches are drawn at random. Batches of similar length would have a little less padding (4 to 8 % of
the time on the demo's data), but length tells much about a short answer: the loss after such
training was up to twice as high.

Imports torch and TRL: import it inside the function that trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from trl import SFTTrainer

from finetune.tokens import Tokens
from foundation.errors import SystemFailed

IGNORED = -100
_MOST_LOGITS = 1 << 28
"""Logits held at once (1 GiB in float32); beyond them, a single process takes TRL's fused head, which never holds them all."""


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
        example = torch.tensor([row["example"][0] for row in rows])
        return {
            "input_ids": ids,
            "labels": labels,
            "attention_mask": mask,
            "position_ids": positions,
            "example": example,
        }


class Packed:
    """Rows of several examples to a batch, padded on the right. Positions start anew with each example.

    There is no attention mask: without one, transformers lets a token see its own example only,
    told by the positions.
    """

    def __init__(self, pad_token: int) -> None:
        self.pad_token = pad_token

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """All (rows, longest). `example` is -1 at padding, each token of which is an example of its own."""
        width = max(len(row["input_ids"]) for row in rows)
        positions = [[i for length in row["seq_lengths"] for i in range(length)] for row in rows]

        def padded(columns: Sequence[Sequence[int]], value: int) -> torch.Tensor:
            return torch.tensor([[*column, *[value] * (width - len(column))] for column in columns])

        return {
            "input_ids": padded([row["input_ids"] for row in rows], self.pad_token),
            "labels": padded([row["labels"] for row in rows], IGNORED),
            "position_ids": padded(positions, 0),
            "example": padded([row["example"] for row in rows], -1),
        }


class Shuffled:
    """A sampler of all examples, in an order that seed and epoch decide in every process."""

    def __init__(self, examples: int, seed: int, epoch: Callable[[], int]) -> None:
        self.examples, self.seed, self.epoch = examples, seed, epoch

    def __len__(self) -> int:
        return self.examples

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        return iter(torch.randperm(self.examples, generator=generator).tolist())


# mypy does not follow TRL's imports: they take it minutes.
class CompletionTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer over `LeftPadded` or `Packed` batches.

    `tokens_seen` counts this process's input tokens without padding, the prefix once for every row.
    `score` (model to 0..1), where there is one, is asked after each evaluation.
    """

    def __init__(
        self,
        *,
        prefix: list[int],
        examples: Sequence[Tokens],
        score: Callable[[Any], float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prefix = prefix
        self.examples = examples
        self.score = score
        self.tokens_seen = 0
        self._heldout = 0.0, 0

    def all_tokens_seen(self) -> int:
        """Of all processes; each of them has to ask."""
        if self.accelerator.num_processes == 1:
            return self.tokens_seen
        return int(
            self.accelerator.reduce(
                torch.tensor(self.tokens_seen, device=self.args.device), reduction="sum"
            )
        )

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """The held-out loss is the mean over all learned tokens, however they fall into batches and processes."""
        self._heldout = 0.0, 0
        output = super().evaluation_loop(*args, **kwargs)
        total, tokens = self.accelerator.reduce(
            torch.tensor(self._heldout, device=self.args.device), reduction="sum"
        ).tolist()
        if not math.isfinite(total):
            raise SystemFailed(
                f"training stopped: the held-out loss is {total / tokens} after step {self.state.global_step}; lower "
                f"finetune.learning_rate ({self.args.learning_rate:g}), or look at the held-out examples"
            )
        output.metrics["eval_loss"] = total / tokens
        return output

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        if self.score is not None:
            with self.accelerator.autocast():
                metrics["eval_score"] = self.score(self.model)
            self.log({"eval_score": metrics["eval_score"]})
        return metrics

    def _get_train_sampler(self, train_dataset: Any = None) -> Shuffled:
        data = train_dataset if train_dataset is not None else self.train_dataset
        return Shuffled(len(data), self.args.seed, lambda: int(self.state.epoch or 0))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        which = inputs.pop("example")
        if model.training:
            mask = inputs.get("attention_mask")
            self.tokens_seen += int(mask.sum() if mask is not None else (which >= 0).sum())
        if self.prefix:
            inputs["past_key_values"] = self._prefix_cache(inputs["input_ids"])
        else:
            inputs["use_cache"] = False
        learned = inputs["labels"][:, 1:] != IGNORED
        # TRL's own loss gathers from all processes, so they must not decide each for itself.
        alone = self.accelerator.num_processes == 1
        if learned.is_cuda or (
            alone and int(learned.sum()) * self.model.config.vocab_size > _MOST_LOGITS
        ):
            loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        else:
            loss = self._loss_where_learned(model, inputs, num_items_in_batch)
        if not model.training:
            tokens = int(learned.sum())
            self._heldout = self._heldout[0] + loss.item() * tokens, self._heldout[1] + tokens
        elif not torch.isfinite(loss):
            self._stop_at(which, loss.item())
        return loss

    def _loss_where_learned(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None,
    ) -> torch.Tensor:
        """Cross-entropy of the labels, summed over the batch, over the labels of the whole step in all processes."""
        following = inputs.pop("labels")[:, 1:]
        learned = following != IGNORED
        with _head_only_where(self.model, learned):
            logits = model(**inputs).logits
        total = cross_entropy(logits.float(), following[learned], reduction="sum")
        if num_items_in_batch is None:
            return total / learned.sum().clamp(min=1)
        return (
            total * self.accelerator.num_processes / num_items_in_batch
        )  # the processes' gradients are averaged

    def _prefix_cache(self, ids: torch.Tensor) -> DynamicCache:
        prefix = torch.tensor([self.prefix], device=ids.device)
        cache = self.model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(ids.size(0))
        return cache

    def _stop_at(self, which: torch.Tensor, loss: float) -> None:
        lines = ", ".join(self.examples[i].where for i in which.unique().tolist() if i >= 0)
        raise SystemFailed(
            f"training stopped: the loss is {loss} at step {self.state.global_step + 1}; lower finetune.learning_rate "
            f"({self.args.learning_rate:g}) or finetune.max_grad_norm, or look at the batch's examples",
            detail=f"the batch: {lines}",
        )


@contextmanager
def _head_only_where(model: Any, learned: torch.Tensor) -> Iterator[None]:
    """The output head sees the hidden states before the learned tokens only: its logits are (learned tokens, vocabulary)."""

    def select(head: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0][:, :-1][learned],)

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def can_share_prefix(model: Any) -> bool:
    """Whether the cache is plain keys and values in every layer: sliding windows and recurrent states can't be shared so."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
