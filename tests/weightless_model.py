"""A chat model's folder that nothing loads: a Llama of zeros, written without torch in ms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from foundation.models.model import ModelRef
from tests.tiny_model import write_tokenizer

_HIDDEN, _HEADS, _VALUES, _INNER = 64, 2, 32, 128
_LAYER = {
    "input_layernorm": (_HIDDEN,),
    "post_attention_layernorm": (_HIDDEN,),
    "self_attn.q_proj": (_HIDDEN, _HIDDEN),
    "self_attn.k_proj": (_VALUES, _HIDDEN),
    "self_attn.v_proj": (_VALUES, _HIDDEN),
    "self_attn.o_proj": (_HIDDEN, _HIDDEN),
    "mlp.gate_proj": (_INNER, _HIDDEN),
    "mlp.up_proj": (_INNER, _HIDDEN),
    "mlp.down_proj": (_HIDDEN, _INNER),
}
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float32",
    "hidden_size": _HIDDEN,
    "intermediate_size": _INNER,
    "num_attention_heads": _HEADS,
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


def write_weightless_model(folder: Path) -> ModelRef:
    folder.mkdir(parents=True)
    words = write_tokenizer(folder)
    shapes = {f"model.layers.0.{name}.weight": shape for name, shape in _LAYER.items()}
    shapes |= {"model.embed_tokens.weight": (words, _HIDDEN), "model.norm.weight": (_HIDDEN,)}
    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in shapes.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(
        json.dumps(_CONFIG | {"vocab_size": words}), encoding="utf-8"
    )
    return ModelRef(folder.name, None, folder)
