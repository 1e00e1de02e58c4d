"""TRL's trainer, without the work whose result nobody uses.

Short answers to long prompts leave two things to save, neither of which changes a result:

- Prompts of one style begin alike. Their common tokens run through the model once a batch, and
  every row attends to those keys and values. Gradients flow back as if each row had its own.
- The output head scores only the learned positions. TRL does that on CUDA; elsewhere its fused
  head scores every position against the whole vocabulary.

Batches are drawn at random. Batches of similar length would save 4 to 8 % of the time on the demo's
data, in padding. But length says much about a short answer: the loss was up to twice as high.

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

from finetune.tokens import ExampleTokens
from foundation.errors import SystemFailed

IGNORED = -100
_MOST_LOGITS = 1 << 28
"""Logits held at once (1 GiB in float32).

Beyond them, a single process takes TRL's fused head, which never holds all logits.
"""


class LeftPadded:
    """Collates rows, without their shared prefix, into a batch that is padded on the left.

    `example`, an index into the data, goes along for messages.
    """

    def __init__(self, pad_token: int, prefix: int) -> None:
        self.pad_token = pad_token
        self.prefix = prefix

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids` and `labels` are (rows, longest own part).

        `attention_mask` is (rows, prefix + longest own part).
        """
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
    """Collates rows of several examples into a batch that is padded on the right.

    Positions restart with each example. Without an attention mask, transformers reads from them
    which tokens belong to one example, and attends within it only.
    """

    def __init__(self, pad_token: int) -> None:
        self.pad_token = pad_token

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Every tensor is (rows, longest). `example` is -1 at padding.

        Each token of padding counts as an example of its own.
        """
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
    Each evaluation also calls `score`, from model to 0..1, if given.
    """

    def __init__(
        self,
        *,
        prefix: list[int],
        examples: Sequence[ExampleTokens],
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
        """The tokens that all processes have seen; each of them must call this."""
        if self.accelerator.num_processes == 1:
            return self.tokens_seen
        seen = torch.tensor(self.tokens_seen, device=self.args.device)
        return int(self.accelerator.reduce(seen, reduction="sum"))

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """The held-out loss: the mean over all learned tokens of all batches and processes."""
        self._heldout = 0.0, 0
        output = super().evaluation_loop(*args, **kwargs)
        total, tokens = self.accelerator.reduce(
            torch.tensor(self._heldout, device=self.args.device), reduction="sum"
        ).tolist()
        if not math.isfinite(total):
            raise SystemFailed(
                f"training stopped: the held-out loss is {total / tokens} "
                f"after step {self.state.global_step}; lower finetune.learning_rate "
                f"({self.args.learning_rate:g}), or look at the held-out examples"
            )
        output.metrics["eval_loss"] = total / tokens
        return output

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The held-out loss, and the task's score under `eval_score`."""
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
        """The loss over the learned tokens. Raises SystemFailed where it is no number."""
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
        """The batch's summed cross-entropy, over the labels of the step in all processes."""
        following = inputs.pop("labels")[:, 1:]
        learned = following != IGNORED
        with _head_only_where(self.model, learned):
            logits = model(**inputs).logits
        total = cross_entropy(logits.float(), following[learned], reduction="sum")
        if num_items_in_batch is None:
            return total / learned.sum().clamp(min=1)
        # Multiplied, since the processes' gradients are averaged.
        return total * self.accelerator.num_processes / num_items_in_batch

    def _prefix_cache(self, ids: torch.Tensor) -> DynamicCache:
        prefix = torch.tensor([self.prefix], device=ids.device)
        cache = self.model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(ids.size(0))
        return cache

    def _stop_at(self, which: torch.Tensor, loss: float) -> None:
        lines = ", ".join(self.examples[i].where for i in which.unique().tolist() if i >= 0)
        raise SystemFailed(
            f"training stopped: the loss is {loss} at step {self.state.global_step + 1}; "
            f"lower finetune.learning_rate ({self.args.learning_rate:g}) "
            "or finetune.max_grad_norm, or look at the batch's examples",
            detail=f"the batch: {lines}",
        )


@contextmanager
def _head_only_where(model: Any, learned: torch.Tensor) -> Iterator[None]:
    """Give the output head only the hidden states before learned tokens.

    Its logits are then (learned tokens, vocabulary).
    """

    def select(head: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0][:, :-1][learned],)

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def can_share_prefix(model: Any) -> bool:
    """Whether every layer's cache is plain keys and values.

    Sliding windows and recurrent states can't be shared.
    """
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
