"""What is read from vLLM's source, against vLLM itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from serve.vllm.supported_models import adapter_support, architectures, quantization_formats

ASKED = (
    "LlamaForCausalLM",
    "GPT2LMHeadModel",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Phi3ForCausalLM",
    "OPTForCausalLM",
)
_ASK = f"""
import importlib, json
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
from vllm.model_executor.models import ModelRegistry, supports_lora
from vllm.model_executor.models.registry import _TEXT_GENERATION_MODELS
def about(architecture):
    module, name = _TEXT_GENERATION_MODELS[architecture]
    model = getattr(importlib.import_module("vllm.model_executor.models." + module), name)
    return [bool(supports_lora(model)), sorted(getattr(model, "embedding_modules", ()))]
models = sorted(_TEXT_GENERATION_MODELS)
abouts = {{a: about(a) for a in {ASKED!r}}}
print(json.dumps([sorted(QUANTIZATION_METHODS), models, abouts]))
"""


def test_what_is_not_in_the_source_is_not_known():
    assert adapter_support("NobodysForCausalLM") is None
    assert "LlamaForCausalLM" in architectures() and "compressed-tensors" in quantization_formats()


@pytest.mark.slow
def test_vllm_says_the_same_of_itself():
    done = subprocess.run(
        [sys.executable, "-P", "-c", _ASK], capture_output=True, text=True, check=True
    )
    formats, models, adapters = json.loads(done.stdout.splitlines()[-1])
    assert quantization_formats() == set(formats)
    assert sorted(architectures()) == models
    for architecture, (any_adapter, embeddings) in adapters.items():
        support = adapter_support(architecture)
        assert support is not None
        assert (support.any, sorted(support.embeddings)) == (any_adapter, embeddings), architecture
