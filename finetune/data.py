"""From examples to tokens: the chat template applied, the completion told from the prompt, all that can be wrong found first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetune.checks import check_modules, check_optimizer, use_own_template
from finetune.config import FinetuneConfig
from finetune.data_report import DataReport, Lost, describe
from finetune.turns import Span, TrainOn, earlier_answers, earlier_count, learnable, token_spans
from finetune.warm_start import check_start
from foundation.data.examples import Example, PromptStyle, sample
from foundation.errors import BadInput
from foundation.files.json_object import object_if_there
from foundation.models.chat_template import templated, tokens_in_place
from foundation.models.model import ModelRef, is_causal

MIN_SHARED_PREFIX = 8  # tokens; below it, computing the prefix apart costs more than it saves


@dataclass(frozen=True)
class Tokens:
    """One example as the model sees it. The loss covers `completion`, the text `answer` and the end-of-turn token, and the
    `earlier` answers: spans of the prompt's tokens, in order.
    """

    where: str
    prompt: list[int]
    completion: list[int]
    answer: str = ""
    earlier: tuple[Span, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)

    @property
    def learned(self) -> list[Span]:
        """Spans of prompt and completion that the loss covers."""
        return [*self.earlier, (len(self.prompt), len(self))]

    def labels(self, ignored: int) -> list[int]:
        """The token at every place that is learned, `ignored` elsewhere."""
        labels = [ignored] * len(self.prompt) + self.completion
        for start, stop in self.earlier:
            labels[start:stop] = self.prompt[start:stop]
        return labels


@dataclass(frozen=True)
class Prepared:
    """Everything training needs that takes no model: tokens of both splits, and the tokenizer they came from."""

    train: list[Tokens]
    heldout: list[Tokens]
    prefix: list[int]
    tokenizer: Any
    report: DataReport


def check(
    config: FinetuneConfig, base: ModelRef, train: Sequence[Example], heldout: Sequence[Example], style: PromptStyle | None
) -> DataReport:
    """All that can be wrong with data and base, before anything slow. Raises BadInput, naming file and line."""
    return prepare(config, base, train, heldout, style).report


def prepare(
    config: FinetuneConfig, base: ModelRef, train: Sequence[Example], heldout: Sequence[Example], style: PromptStyle | None
) -> Prepared:
    """Tokens of a seeded sample of `limit` training and `eval_limit` held-out examples. Raises BadInput as `check` does."""
    about = _check_base(base, config)
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
    watched, *_ = _fit(encode(sample(heldout, config.eval_limit, config.seed), style, tokenizer, ends, config.train_on), limit)
    if not learned:
        raise BadInput(f"finetune.too_long: drop leaves no example: each of them is over {limit.name} {limit.tokens}")
    if config.watch == "score" and (textless := [t.where for t in watched if not t.answer]):
        raise BadInput(f"{textless[0]}: finetune.watch: score compares texts, and this answer calls tools; write watch: loss")
    prefix = [] if config.packing or config.gradient_checkpointing else shared_prefix([*learned, *watched])
    earlier = 0 if config.train_on == "all" else sum(earlier_count(example) for example in taken)
    left_out = Lost(truncated=lost[0], dropped=lost[1], unlearned=len(taken) - len(encoded), earlier=earlier)
    report = describe(train, heldout, learned, len(watched), prefix, left_out, tokenizer)
    return Prepared(learned, watched, prefix, tokenizer, report)


def encode(
    examples: Sequence[Example],
    style: PromptStyle | None,
    tokenizer: Any,
    ends: frozenset[int],
    train_on: TrainOn = "last",
) -> list[Tokens]:
    """Prompt and completion tokens of each example in which something is learned, by the model's own chat template.

    The prompt is what a server will be sent: the messages and the opening of the assistant's turn. The completion is what the
    template puts after it, cut behind the end-of-turn token: the newline that many templates add there is never generated, so it
    isn't learned.
    """
    kept = [cut for example in examples if (cut := learnable(example, train_on))]
    texts = [(example.where, *_rendered(example, style, tokenizer)) for example in kept]
    return [
        Tokens(
            example.where,
            prompt,
            _through_end(answer, ends, example, tokenizer),
            example.completion,
            _earlier(example, text, prompt, tokenizer, ends) if train_on == "all" else (),
        )
        for example, (_, text, _), (prompt, answer) in zip(kept, texts, tokens_in_place(tokenizer, texts), strict=True)
    ]


def shared_prefix(tokens: Sequence[Tokens]) -> list[int]:
    """The tokens that every prompt begins with, leaving each at least one of its own before what is learned of it.

    Empty where sharing them doesn't pay.
    """
    if len(tokens) < 2:
        return []
    # What the first and the last in order share, all between them share.
    first, last = min(t.prompt for t in tokens), max(t.prompt for t in tokens)
    longest = min(t.learned[0][0] for t in tokens) - 1
    length = next((i for i in range(longest) if first[i] != last[i]), longest)
    return first[:length] if length >= MIN_SHARED_PREFIX else []


def _rendered(example: Example, style: PromptStyle | None, tokenizer: Any) -> tuple[str, str]:
    prompt, whole = templated(example, style, tokenizer)
    if not whole.startswith(prompt):
        raise BadInput(
            f"{example.where}: the model's chat template words the question otherwise once it is answered, so what is learned "
            "would not be what is served; use a template that only appends the answer"
        )
    answer = whole[len(prompt) :]
    if example.completion.strip() not in answer:
        raise BadInput(f"{example.where}: the model's chat template drops the assistant's answer, so nothing would be learned")
    return prompt, answer


def _earlier(example: Example, text: str, prompt: list[int], tokenizer: Any, ends: frozenset[int]) -> tuple[Span, ...]:
    spans = earlier_answers(example, text, tokenizer)
    try:
        return tuple(token_spans(text, prompt, spans, tokenizer, ends))
    except ValueError as error:
        raise BadInput(f"{example.where}: {error}; write finetune.train_on: last") from None


def _through_end(answer: list[int], ends: frozenset[int], example: Example, tokenizer: Any) -> list[int]:
    last = max((i for i, token in enumerate(answer) if token in ends), default=None)
    if last is None:
        names = " or ".join(sorted(tokenizer.convert_ids_to_tokens(sorted(ends))))
        raise BadInput(
            f"{example.where}: the model's chat template writes no end of turn ({names}) after the answer: "
            "the tuned model would never stop"
        )
    return answer[: last + 1]


def _load_tokenizer(base: ModelRef, config: FinetuneConfig) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base.path, trust_remote_code=config.trust_remote_code)
    except (OSError, ValueError) as error:
        raise BadInput(f"{base.path}: its tokenizer can't be loaded ({str(error).strip().splitlines()[0]})") from None
    use_own_template(config, tokenizer)
    if not tokenizer.chat_template:
        raise BadInput(f"{base.path}: its tokenizer has no chat template; use an instruct model, or write finetune.chat_template")
    return tokenizer


def _end_tokens(base: ModelRef, tokenizer: Any) -> frozenset[int]:
    """What ends generation: the tokenizer's own token and those of `generation_config.json`."""
    file = base.path / "generation_config.json"
    listed = object_if_there(file).get("eos_token_id")
    ids = [*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id]
    ends = frozenset(i for i in ids if i is not None)
    if not ends:
        raise BadInput(f"{base.path}: no end-of-sequence token in tokenizer_config.json or generation_config.json")
    return ends


def _check_base(base: ModelRef, config: FinetuneConfig) -> dict[str, object]:
    about = base.config()
    architectures = about.get("architectures")
    names = [str(a) for a in architectures] if isinstance(architectures, list) else []
    if not any(map(is_causal, names)):
        raise BadInput(
            f"{base.path}/config.json: architectures: {', '.join(names) or 'none'}; finetune needs a causal LM (...ForCausalLM)"
        )
    if "quantization_config" in about:
        raise BadInput(f"{base.id}: already quantized; fine-tune the full-precision model, then quantize once")
    base.fingerprint()  # refuses weights that are not safetensors
    _check_code(base, about, config)
    check_modules(base, about, config)
    check_optimizer(config)
    if config.warm_start:
        check_start(config.warm_start, base, config)
    if not can_evaluate(config) and (config.patience or config.eval_steps or config.watch == "score"):
        raise BadInput(
            "finetune.base_format: nf4 can't be evaluated while it is trained on a CPU (bitsandbytes repacks the weights for "
            "good), which patience, eval_steps and watch: score need; leave them out, or write base_format: int8"
        )
    return about


def _check_code(base: ModelRef, about: dict[str, object], config: FinetuneConfig) -> None:
    from transformers import CONFIG_MAPPING

    if about.get("auto_map") and about.get("model_type") not in CONFIG_MAPPING and not config.trust_remote_code:
        raise BadInput(
            f"{base.path}/config.json: auto_map: this model brings Python code of its own, which is not run unless asked for; "
            "read it, then write finetune.trust_remote_code: true"
        )


def can_evaluate(config: FinetuneConfig) -> bool:
    """Whether held-out loss can be had during training: not with an NF4 base on a CPU, whose first evaluation spoils the rest."""
    import torch

    return not (config.method == "qlora" and config.base_format == "nf4") or torch.cuda.is_available()


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
        remedy = "raise it or shorten the example" if limit.name == "finetune.max_length" else "shorten the example"
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
