"""Adapter and base in, a checkpoint out: merge in full precision, then quantize as vLLM serves it.

In: a base model, an adapter, a method. Out: a checkpoint folder with `recipe.json` (from what, how, with which versions, sizes)
and, where it was asked for, `recovery.json` (what quantizing lost). Start at `merging`, then `methods`, which chooses among the
`writers` in this process and `llmcompressor` in an environment of its own; `recovery` compares. Importing this package loads no
torch.
"""

from quantize.layers import count_weights
from quantize.merging.adapter_check import check_adapter
from quantize.merging.merge import check_merge, merge
from quantize.methods import check_quantize, quantize
from quantize.planned import planned_weights
from quantize.recovery import measure_recovery

__all__ = [
    "check_adapter",
    "check_merge",
    "check_quantize",
    "count_weights",
    "measure_recovery",
    "merge",
    "planned_weights",
    "quantize",
]
