"""From examples to tokens: the chat template applied, the completion told from the prompt, all that can be wrong found first."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.config import FinetuneConfig
from foundation.errors import BadInput
from foundation.examples import Example, PromptStyle, render
from foundation.model import ModelRef
from foundation.section import nearest

MIN_SHARED_PREFIX = 8  # tokens; below it, computing the prefix apart costs more than it saves


@dataclass(frozen=True)
class Tokens:
    """One example as the model sees it. The loss covers `completion`, which ends with the end-of-turn token."""

    where: str
    prompt: list[int]
    completion: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class DataReport:
    """What will be trained on. Lengths are tokens of prompt and completion; `shared_prefix` is what all prompts begin with."""

    train: int
    heldout: int
    duplicates: int
    tokens: int
    trained_tokens: int
    length_p50: int
    length_p95: int
    length_max: int
    shared_prefix: int
    sample: str

    def __str__(self) -> str:
        repeated = f", {self.duplicates} asked more than once" if self.duplicates else ""
        return (
            f"{self.train} examples{repeated}, {self.tokens} tokens (p50 {self.length_p50}, p95 {self.length_p95}, "
            f"max {self.length_max}), {self.trained_tokens} of them learned; {self.heldout} held out"
        )


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
    _check_split(train, heldout)
    tokenizer = _load_tokenizer(base)
    ends = _end_tokens(base, tokenizer)
    limit, limit_name = config.max_length, "finetune.max_length"
    context = about.get("max_position_embeddings")
    if isinstance(context, int) and context < limit:
        limit, limit_name = context, f"the context of {base.id}"
    learned = encode(_sample(train, config.limit, config.seed), style, tokenizer, ends)
    watched = encode(_sample(heldout, config.eval_limit, config.seed), style, tokenizer, ends)
    _check_lengths([*learned, *watched], limit, limit_name)
    prefix = shared_prefix([*learned, *watched])
    return Prepared(learned, watched, prefix, tokenizer, _report(train, learned, watched, prefix, tokenizer))


def encode(examples: Sequence[Example], style: PromptStyle | None, tokenizer: Any, ends: frozenset[int]) -> list[Tokens]:
    """Prompt and completion tokens of each example, by the model's own chat template.

    The prompt is what a server will be sent: the messages and the opening of the assistant's turn. The completion is what the
    template puts after it, cut behind the end-of-turn token: the newline that many templates add there is never generated, so it
    isn't learned. Tokenized apart, so that no token spans the border that a server has there too.
    """
    texts = [_rendered(example, style, tokenizer) for example in examples]
    if not texts:
        return []
    prompts = tokenizer([prompt for prompt, _ in texts], add_special_tokens=False)["input_ids"]
    answers = tokenizer([answer for _, answer in texts], add_special_tokens=False)["input_ids"]
    return [
        Tokens(example.where, prompt, _through_end(answer, ends, example, tokenizer))
        for example, prompt, answer in zip(examples, prompts, answers, strict=True)
    ]


def shared_prefix(tokens: Sequence[Tokens]) -> list[int]:
    """The tokens that every prompt begins with, leaving each at least one of its own; empty where sharing them doesn't pay."""
    if len(tokens) < 2:
        return []
    # What the first and the last in order share, all between them share.
    first, last = min(t.prompt for t in tokens), max(t.prompt for t in tokens)
    longest = min(len(t.prompt) for t in tokens) - 1
    length = next((i for i in range(longest) if first[i] != last[i]), longest)
    return first[:length] if length >= MIN_SHARED_PREFIX else []


def _rendered(example: Example, style: PromptStyle | None, tokenizer: Any) -> tuple[str, str]:
    import jinja2

    question = render(example, style)
    turns = [*question, {"role": "assistant", "content": example.completion}]
    try:
        prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
    except jinja2.TemplateError as error:
        raise BadInput(f"{example.where}: the model's chat template refuses these messages ({error})") from None
    if not whole.startswith(prompt):
        raise BadInput(
            f"{example.where}: the model's chat template words the question otherwise once it is answered, so what is learned "
            "would not be what is served; use a template that only appends the answer"
        )
    answer = whole[len(prompt) :]
    if example.completion.strip() not in answer:
        raise BadInput(f"{example.where}: the model's chat template drops the assistant's answer, so nothing would be learned")
    return prompt, answer


def _through_end(answer: list[int], ends: frozenset[int], example: Example, tokenizer: Any) -> list[int]:
    last = max((i for i, token in enumerate(answer) if token in ends), default=None)
    if last is None:
        names = " or ".join(sorted(tokenizer.convert_ids_to_tokens(sorted(ends))))
        raise BadInput(
            f"{example.where}: the model's chat template writes no end of turn ({names}) after the answer: "
            "the tuned model would never stop"
        )
    return answer[: last + 1]


def _load_tokenizer(base: ModelRef) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.path)
    if not tokenizer.chat_template:
        raise BadInput(f"{base.path}: its tokenizer has no chat template; use an instruct model, or add chat_template.jinja")
    return tokenizer


def _end_tokens(base: ModelRef, tokenizer: Any) -> frozenset[int]:
    """What ends generation: the tokenizer's own token and those of `generation_config.json`."""
    file = base.path / "generation_config.json"
    listed = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
    ids = [*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id]
    ends = frozenset(i for i in ids if i is not None)
    if not ends:
        raise BadInput(f"{base.path}: no end-of-sequence token in tokenizer_config.json or generation_config.json")
    return ends


def _check_base(base: ModelRef, config: FinetuneConfig) -> dict[str, object]:
    about = base.config()
    architectures = about.get("architectures")
    names = [str(a) for a in architectures] if isinstance(architectures, list) else []
    if not any(name.endswith("ForCausalLM") for name in names):
        raise BadInput(
            f"{base.path}/config.json: architectures: {', '.join(names) or 'none'}; finetune needs a causal LM (...ForCausalLM)"
        )
    if "quantization_config" in about:
        raise BadInput(f"{base.id}: already quantized; fine-tune the full-precision model, then quantize once")
    _check_targets(base, config)
    return about


def _check_targets(base: ModelRef, config: FinetuneConfig) -> None:
    from safetensors import safe_open

    if config.modules == "all-linear":
        return
    linear: set[str] = set()
    for shard in sorted(base.path.glob("*.safetensors")):
        with safe_open(shard, framework="numpy") as weights:
            matrices = [name for name in weights.keys() if len(weights.get_slice(name).get_shape()) == 2]  # noqa: SIM118
            linear |= {name.removesuffix(".weight").split(".")[-1] for name in matrices}
    for module in config.modules:
        if module in ("lm_head", "embed_tokens"):
            raise BadInput(f"finetune.target_modules: no server takes an adapter of {module}; leave it out, as all-linear does")
        if module not in linear:
            known = nearest(module, linear - {"lm_head", "embed_tokens"})
            raise BadInput(f"finetune.target_modules: {base.id} has no module {module!r}{known}")


def _check_split(train: Sequence[Example], heldout: Sequence[Example]) -> None:
    asked = {example.key: example for example in reversed(train)}
    for example in heldout:
        if (twin := asked.get(example.key)) is not None:
            raise BadInput(
                f"{twin.where}: the same question stands in the held-out split at {example.where}; remove it from one of them"
            )


def _check_lengths(tokens: Sequence[Tokens], limit: int, limit_name: str) -> None:
    over = [t for t in tokens if len(t) > limit]
    if over:
        others = f" (and {len(over) - 1} more examples are too long)" if len(over) > 1 else ""
        remedy = "raise it or shorten the example" if limit_name == "finetune.max_length" else "shorten the example"
        raise BadInput(f"{over[0].where}: {len(over[0])} tokens, over {limit_name} {limit}{others}; {remedy}")


def _sample(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    if limit is None or limit >= len(examples):
        return list(examples)
    return random.Random(seed).sample(list(examples), limit)


def _report(
    examples: Sequence[Example], train: Sequence[Tokens], heldout: Sequence[Tokens], prefix: list[int], tokenizer: Any
) -> DataReport:
    lengths = sorted(len(t) for t in train)
    first = train[0]
    return DataReport(
        train=len(train),
        heldout=len(heldout),
        duplicates=len(examples) - len({e.key for e in examples}),
        tokens=sum(lengths),
        trained_tokens=sum(len(t.completion) for t in train),
        length_p50=lengths[len(lengths) // 2],
        length_p95=lengths[int(len(lengths) * 0.95)],
        length_max=lengths[-1],
        shared_prefix=len(prefix),
        sample=f"{tokenizer.decode(first.prompt)}⟦{tokenizer.decode(first.completion)}⟧",
    )
