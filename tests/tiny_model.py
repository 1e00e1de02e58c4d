"""A random-weight chat model small enough to build, train and serve inside a test.

A real Llama with safetensors weights, a byte-level tokenizer and a ChatML template.
"""

from __future__ import annotations

import json
from pathlib import Path

from foundation.models.model import ModelRef

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def build_tiny_model(
    folder: Path,
    seed: int = 0,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    kv_heads: int = 1,
    intermediate: int = 128,
    tied: bool = True,
    dtype: str = "bfloat16",
    initializer_range: float = 0.02,
    id: str = "test/tiny-chat",
    revision: str | None = "r1",
) -> ModelRef:
    """Writes the model into `folder`.

    `hidden / heads` must be a head size of vLLM's CPU attention: 32 or 64. With the usual
    `initializer_range` the small output head makes all answers equally likely, with any adapter.
    With 0.5 an adapter shows.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
        initializer_range=initializer_range,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    return ModelRef(id=id, revision=revision, path=folder)


def write_tokenizer(folder: Path) -> int:
    """A byte-level tokenizer with chat markers and no merges. Returns the vocabulary's size."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *letters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 2048,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n")
    return len(vocabulary)


def write_word_tokenizer(folder: Path) -> None:
    """Tokens for a hundred words, with and without a space before, and for the template's text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(exist_ok=True)
    words = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(10) for j in range(10)]
    tokenizer = Tokenizer(
        models.WordLevel(
            {"?": 0} | {f"▁{word}": i + 1 for i, word in enumerate(words)}, unk_token="?"
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS[1:]])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": CHAT_TEMPLATE, "bos_token": {"content": "?"}})
    )


LLAMA2_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<s>[INST] ' + m['content'] + ' "
    "[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' </s>' }}{% endif %}{% endfor %}"
)


def write_llama2_tokenizer(folder: Path, template: str = LLAMA2_TEMPLATE) -> None:
    """Llama 2's kind of BPE: ▁ for a space, one before each text. "earn" is one token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    folder.mkdir(exist_ok=True)
    special = ["<unk>", "<s>", "</s>"]
    single = ["▁", "\n", *(chr(code) for code in range(33, 127))]
    merges = [
        ("e", "a"),
        ("r", "n"),
        ("ea", "rn"),
        ("▁", "earn"),
        ("a", "c"),
        ("ac", "q"),
        ("▁", "acq"),
        ("▁", "▁"),
    ]
    names = [*special, *single, *(a + b for a, b in merges)]
    vocabulary = {name: place for place, name in enumerate(names)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, "chat_template": template}))
