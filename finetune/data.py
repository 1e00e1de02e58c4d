"""From examples to what training takes: tokens of both splits, with all that can be wrong found first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetune.checks import check_base, use_own_template
from finetune.config import FinetuneConfig
from finetune.data_report import DataReport, Lost, describe
from finetune.tokens import Tokens, encode, shared_prefix
from finetune.turns import earlier_count
from foundation.data.examples import Example, PromptStyle, sample
from foundation.errors import BadInput
from foundation.files.json_object import object_if_there
from foundation.models.model import ModelRef


@dataclass(frozen=True)
class Prepared:
    """Everything training needs that takes no model: tokens of both splits, and the tokenizer they came from."""

    train: list[Tokens]
    heldout: list[Tokens]
    prefix: list[int]
    tokenizer: Any
    report: DataReport


def check(
    config: FinetuneConfig,
    base: ModelRef,
    train: Sequence[Example],
    heldout: Sequence[Example],
    style: PromptStyle | None,
) -> DataReport:
    """All that can be wrong with data and base, before anything slow. Raises BadInput, naming file and line."""
    return prepare(config, base, train, heldout, style).report


def prepare(
    config: FinetuneConfig,
    base: ModelRef,
    train: Sequence[Example],
    heldout: Sequence[Example],
    style: PromptStyle | None,
) -> Prepared:
    """Tokens of a seeded sample of `limit` training and `eval_limit` held-out examples. Raises BadInput as `check` does."""
    about = check_base(base, config)
    if not train:
        raise BadInput("finetune: no examples to learn from; data.train names none")
    tokenizer = _load_tokenizer(base, config)
    ends = _end_tokens(base, tokenizer)
    limit = _Limit(config.max_length, "finetune.max_length", config.too_long)
    context = about.get("max_position_embeddings")
    if isinstance(context, int) and context < limit.tokens:
        limit = _Limit(context, f"the context of {base.id}", config.too_long)
    taken = sample(train, config.limit, config.seed)
    encoded = encode(taken, style, tokenizer, ends, config.train_on)
    if not encoded:
        raise BadInput(
            f"{taken[0].where}: weight: 0 stands at every answer, so nothing would be learned; write 1, or leave it out"
        )
    learned, *lost = _fit(encoded, limit)
    watched, *_ = _fit(
        encode(
            sample(heldout, config.eval_limit, config.seed), style, tokenizer, ends, config.train_on
        ),
        limit,
    )
    if not learned:
        raise BadInput(
            f"finetune.too_long: drop leaves no example: each of them is over {limit.name} {limit.tokens}"
        )
    if config.watch == "score" and (textless := [t.where for t in watched if not t.answer]):
        raise BadInput(
            f"{textless[0]}: finetune.watch: score compares texts, and this answer calls tools; write watch: loss"
        )
    prefix = (
        []
        if config.packing or config.gradient_checkpointing
        else shared_prefix([*learned, *watched])
    )
    earlier = 0 if config.train_on == "all" else sum(earlier_count(example) for example in taken)
    left_out = Lost(
        truncated=lost[0], dropped=lost[1], unlearned=len(taken) - len(encoded), earlier=earlier
    )
    report = describe(train, heldout, learned, len(watched), prefix, left_out, tokenizer)
    return Prepared(learned, watched, prefix, tokenizer, report)


def _load_tokenizer(base: ModelRef, config: FinetuneConfig) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            base.path, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{base.path}: its tokenizer can't be loaded ({str(error).strip().splitlines()[0]})"
        ) from None
    use_own_template(config, tokenizer)
    if not tokenizer.chat_template:
        raise BadInput(
            f"{base.path}: its tokenizer has no chat template; use an instruct model, or write finetune.chat_template"
        )
    return tokenizer


def _end_tokens(base: ModelRef, tokenizer: Any) -> frozenset[int]:
    """What ends generation: the tokenizer's own token and those of `generation_config.json`."""
    file = base.path / "generation_config.json"
    listed = object_if_there(file).get("eos_token_id")
    ids = [*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id]
    ends = frozenset(i for i in ids if i is not None)
    if not ends:
        raise BadInput(
            f"{base.path}: no end-of-sequence token in tokenizer_config.json or generation_config.json"
        )
    return ends


@dataclass(frozen=True)
class _Limit:
    """The most tokens an example may have, what sets that, and what becomes of a longer one."""

    tokens: int
    name: str
    too_long: str


def _fit(tokens: Sequence[Tokens], limit: _Limit) -> tuple[list[Tokens], int, int]:
    """What fits, how many completions were truncated, how many examples were dropped."""
    over = [t for t in tokens if len(t) > limit.tokens]
    if over and limit.too_long == "refuse":
        others = f" (and {len(over) - 1} more examples are too long)" if len(over) > 1 else ""
        remedy = (
            "raise it or shorten the example"
            if limit.name == "finetune.max_length"
            else "shorten the example"
        )
        raise BadInput(
            f"{over[0].where}: {len(over[0])} tokens, over {limit.name} {limit.tokens}{others}; {remedy}, "
            "or write finetune.too_long: drop or truncate"
        )
    if limit.too_long == "drop":
        return [t for t in tokens if len(t) <= limit.tokens], 0, len(over)
    for t in over:
        if len(t.prompt) >= limit.tokens:
            raise BadInput(
                f"{t.where}: every label would be masked: the prompt alone has {len(t.prompt)} tokens, and {limit.name} is "
                f"{limit.tokens}; shorten it, or write finetune.too_long: drop"
            )
    cut = [replace(t, completion=t.completion[: limit.tokens - len(t.prompt)]) for t in tokens]
    return cut, len(over), 0
