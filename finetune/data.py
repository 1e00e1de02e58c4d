"""Tokens of both splits for a training, with every fault of the data found first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetune.checks import check_base, use_own_template
from finetune.config import FinetuneConfig
from finetune.data_report import DataReport, LostExamples, describe
from finetune.job import TrainingJob
from finetune.tokens import ExampleTokens, encode, shared_prefix
from finetune.turns import earlier_count
from foundation.data.examples import Example, sample
from foundation.errors import BadInput
from foundation.files.json_object import object_if_there
from foundation.models.model import ModelRef


@dataclass(frozen=True)
class TrainingData:
    """What a training needs beside the model: tokens of both splits, and their tokenizer.

    `prefix` holds the tokens that every prompt begins with; it is empty where sharing them does not
    pay.
    """

    train: list[ExampleTokens]
    heldout: list[ExampleTokens]
    prefix: list[int]
    tokenizer: Any
    report: DataReport


def check(job: TrainingJob) -> DataReport:
    """The data report. Raises BadInput for every fault of data and base, with file and line."""
    return prepare(job).report


def prepare(job: TrainingJob) -> TrainingData:
    """Tokens of a seeded sample: `limit` training examples, `eval_limit` held-out ones.

    Raises BadInput as `check` does.
    """
    config = job.config
    about = check_base(job.base, config)
    if not job.train:
        raise BadInput("finetune: no examples to learn from; data.train names none")
    tokenizer = _load_tokenizer(job.base, config)
    ends, limit = _end_tokens(job.base, tokenizer), _limit(job, about)
    examples = sample(job.train, config.limit, config.seed)
    encoded = encode(examples, job.style, tokenizer, ends, config.train_on)
    if not encoded:
        raise BadInput(
            f"{examples[0].where}: weight: 0 stands at every answer, so nothing would be learned; "
            "write 1, or leave it out"
        )
    learned, truncated, dropped = _fit(encoded, limit)
    if not learned:
        raise BadInput(
            "finetune.too_long: drop leaves no example: "
            f"each of them is over {limit.name} {limit.tokens}"
        )
    heldout = sample(job.heldout, config.eval_limit, config.seed)
    watched, *_ = _fit(encode(heldout, job.style, tokenizer, ends, config.train_on), limit)
    _check_answers(config, watched)
    prefix = _prefix(config, [*learned, *watched])
    lost = LostExamples(
        truncated=truncated,
        dropped=dropped,
        unlearned=len(examples) - len(encoded),
        earlier=_unlearned_answers(config, examples),
    )
    report = describe(job, tokenizer, learned, len(watched), prefix, lost)
    return TrainingData(learned, watched, prefix, tokenizer, report)


def _check_answers(config: FinetuneConfig, watched: Sequence[ExampleTokens]) -> None:
    textless = [tokens.where for tokens in watched if not tokens.answer]
    if config.watch == "score" and textless:
        raise BadInput(
            f"{textless[0]}: finetune.watch: score compares texts, and this answer calls tools; "
            "write watch: loss"
        )


def _prefix(config: FinetuneConfig, tokens: Sequence[ExampleTokens]) -> list[int]:
    """Packed rows and recomputed activations can't share the keys and values of a prefix."""
    if config.packing or config.gradient_checkpointing:
        return []
    return shared_prefix(tokens)


def _unlearned_answers(config: FinetuneConfig, examples: Sequence[Example]) -> int:
    """How many answers of earlier turns the training leaves out."""
    return 0 if config.train_on == "all" else sum(map(earlier_count, examples))


def _load_tokenizer(base: ModelRef, config: FinetuneConfig) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            base.path, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise BadInput(f"{base.path}: its tokenizer can't be loaded ({first_line})") from None
    use_own_template(config, tokenizer)
    if not tokenizer.chat_template:
        raise BadInput(
            f"{base.path}: its tokenizer has no chat template; "
            "use an instruct model, or write finetune.chat_template"
        )
    return tokenizer


def _end_tokens(base: ModelRef, tokenizer: Any) -> frozenset[int]:
    """The tokens that end generation: the tokenizer's own and those of `generation_config.json`."""
    listed = object_if_there(base.path / "generation_config.json").get("eos_token_id")
    ids = [*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id]
    ends = frozenset(i for i in ids if i is not None)
    if not ends:
        raise BadInput(
            f"{base.path}: no end-of-sequence token in tokenizer_config.json "
            "or generation_config.json"
        )
    return ends


@dataclass(frozen=True)
class _TokenLimit:
    """The most tokens an example may have, what sets that, and what happens to a longer one."""

    tokens: int
    name: str
    too_long: str


def _limit(job: TrainingJob, about: Mapping[str, object]) -> _TokenLimit:
    config = job.config
    context = about.get("max_position_embeddings")
    if isinstance(context, int) and context < config.max_length:
        return _TokenLimit(context, f"the context of {job.base.id}", config.too_long)
    return _TokenLimit(config.max_length, "finetune.max_length", config.too_long)


def _fit(
    examples: Sequence[ExampleTokens], limit: _TokenLimit
) -> tuple[list[ExampleTokens], int, int]:
    """The examples within the limit, and how many were truncated and dropped for that."""
    over = [tokens for tokens in examples if len(tokens) > limit.tokens]
    if over and limit.too_long == "refuse":
        raise _too_long(over, limit)
    if limit.too_long == "drop":
        return [tokens for tokens in examples if len(tokens) <= limit.tokens], 0, len(over)
    for tokens in over:
        if len(tokens.prompt) >= limit.tokens:
            raise BadInput(
                f"{tokens.where}: every label would be masked: the prompt alone has "
                f"{len(tokens.prompt)} tokens, and {limit.name} is {limit.tokens}; shorten it, "
                "or write finetune.too_long: drop"
            )
    return [_truncated(tokens, limit) for tokens in examples], len(over), 0


def _truncated(tokens: ExampleTokens, limit: _TokenLimit) -> ExampleTokens:
    return replace(tokens, completion=tokens.completion[: limit.tokens - len(tokens.prompt)])


def _too_long(over: Sequence[ExampleTokens], limit: _TokenLimit) -> BadInput:
    others = f" (and {len(over) - 1} more examples are too long)" if len(over) > 1 else ""
    is_setting = limit.name == "finetune.max_length"
    remedy = "raise it or shorten the example" if is_setting else "shorten the example"
    return BadInput(
        f"{over[0].where}: {len(over[0])} tokens, over {limit.name} {limit.tokens}{others}; "
        f"{remedy}, or write finetune.too_long: drop or truncate"
    )
