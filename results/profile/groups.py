"""The groups of an engine step's time, and the one table that puts an operator into a group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

ATTENTION, LINEAR, QUANTIZE, LORA = "attention", "linear", "quantize", "lora"
ELEMENTWISE, SAMPLING, COMMUNICATION = "elementwise", "sampling", "communication"
COPIES, HOST, IDLE, OTHER = "copies", "host", "idle", "other"

TITLES = {
    ATTENTION: "attention",
    LINEAR: "linear",
    QUANTIZE: "quantize and dequantize",
    LORA: "LoRA",
    ELEMENTWISE: "normalisation and activation",
    SAMPLING: "sampling",
    COMMUNICATION: "communication",
    COPIES: "copies",
    HOST: "host",
    IDLE: "idle",
    OTHER: "other operators",
}
"""The groups in the order of tables, with their titles."""

# The first rule that matches decides. An operator inside another one belongs to that one's group,
# unless that is `host`; after a step's annotation comes the sampler, whose operators are sampling.
_RULES: tuple[tuple[str, str], ...] = (
    (
        COMMUNICATION,
        r"nccl|rccl|all_?reduce|all_?gather|reduce_?scatter|cross_device_reduce|c10d::",
    ),
    (LORA, r"lora|bgmv|sgmv|punica"),
    (ATTENTION, r"attn|attention|flash_?fwd|fmha|flashinfer|paged_|kv_cache|_and_cache|rotary"),
    (ATTENTION, r"slot_mapping|get_scheduler_metadata|flash::"),
    (SAMPLING, r"argmax|top_?k|top_?p|multinomial|softmax|sampl|sort|exponential|philox|penalt"),
    (QUANTIZE, r"dequant|quant(?!.*(gemm|_mm))|segmented_max"),
    (LINEAR, r"gemm|gemv|nvjet|cutlass|cublas|marlin|machete|splitk|_mm\b|_mm_"),
    (LINEAR, r"^aten::(mm|bmm|addmm|matmul|linear|einsum)$"),
    (ELEMENTWISE, r"norm|silu|gelu|relu|act_and_mul|swiglu|sigmoid|tanh|^triton_(poi|red|per)_"),
    (COPIES, r"memcpy|memset|copy|embedding|gather|scatter|CatArray|FillFunctor|index_elementwise"),
    (ELEMENTWISE, r"elementwise|reduce_kernel"),
    (ELEMENTWISE, r"^aten::(add|sub|mul|div|pow|mean|sum|rsqrt|sqrt|neg|exp)_?$"),
    (COPIES, r"^aten::(to|_to_copy|clone|contiguous|cat|stack|repeat_interleave|pad)$"),
    (
        COPIES,
        r"^aten::(index|index_select|index_put_?|masked_fill_?|where|fill_|zero_|zeros|ones)$",
    ),
    (HOST, r"^aten::(lt|le|gt|ge|eq|ne|arange|cumsum|max|min|all|any|item|is_nonzero|_local_.*)$"),
    (HOST, r"^aten::(zeros_like|unique_\w+|result_type|lift_fresh|alias|detach_?|resolve_\w+)$"),
    (HOST, r"^aten::(empty\w*|new_empty\w*|slice|select|narrow|view\w*|reshape|_reshape_alias)$"),
    (HOST, r"^aten::(as_strided|flatten|permute|transpose|t|expand|chunk|split\w*|unbind)$"),
    (HOST, r"^aten::(squeeze|unsqueeze|numpy_T|set_|resize_)$"),
)
_COMPILED = tuple((group, re.compile(pattern, re.IGNORECASE)) for group, pattern in _RULES)

# On a CPU vLLM computes an adapter with plain operators (vllm/lora/punica_wrapper/punica_cpu.py):
# buffers of zeros after the layer's own product, gathers and einsums, and a last view_as.
_LORA_BEGINS, _LORA_HOLDS, _LORA_ENDS = "aten::zeros", "aten::einsum", "aten::view_as"
_ANCHORS = frozenset({LINEAR, ATTENTION})


@cache
def group_of(operator: str) -> str:
    """The group of an operator or a kernel by its name; `other` for an unknown one."""
    return next((group for group, pattern in _COMPILED if pattern.search(operator)), OTHER)


def lora_sections(names: Sequence[str], parents: Sequence[int | None]) -> set[int]:
    """The indices of operators that compute an adapter on a CPU.

    `names`: of a thread's events, in order. `parents`: the index of each one's parent, or None.
    """
    siblings: dict[int, list[int]] = {}
    for index, parent in enumerate(parents):
        if parent is not None and parents[parent] is None:
            siblings.setdefault(parent, []).append(index)
    return {index for each in siblings.values() for index in _sections(names, each)}


def _sections(names: Sequence[str], siblings: Sequence[int]) -> list[int]:
    """The members of all sections among siblings: from a beginning to the last end after it."""
    members: list[int] = []
    section: list[int] = []
    for index in (*siblings, None):
        name = None if index is None else names[index]
        is_anchor = name is None or (name != _LORA_HOLDS and group_of(name) in _ANCHORS)
        if is_anchor:
            members += _closed(names, section)
            section = []
        elif section or name == _LORA_BEGINS:
            assert index is not None
            section.append(index)
    return members


def _closed(names: Sequence[str], section: Sequence[int]) -> Sequence[int]:
    """A section up to its last end; nothing if it holds no product of an adapter."""
    ends = [at for at, index in enumerate(section) if names[index] == _LORA_ENDS]
    if not ends or all(names[index] != _LORA_HOLDS for index in section):
        return ()
    return section[: ends[-1] + 1]
