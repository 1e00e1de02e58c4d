"""Adapter and base in, a checkpoint out: merge in full precision, then quantize as vLLM serves it.

In: a base model, an adapter, a method. Out: a checkpoint folder with `recipe.json` (from what, how, with which versions, sizes)
and, where it was asked for, `recovery.json` (what quantizing lost). Start at `merge`, then `methods`, which knows the writers:
`compressed` (its arithmetic in `rounding`, its files in `shards`) and `bnb` in this process, `calibrated` in llm-compressor's own
environment; `recovery` compares, `support` tells where a method can be served. Importing this package loads no torch.
"""

from quantize.adapter import check_adapter
from quantize.merge import check_merge, merge
from quantize.methods import check_quantize, quantize
from quantize.recovery import measure_recovery
from quantize.support import stored_method, why_not_on_cpu, why_not_on_cuda

__all__ = [
    "check_adapter",
    "check_merge",
    "check_quantize",
    "measure_recovery",
    "merge",
    "quantize",
    "stored_method",
    "why_not_on_cpu",
    "why_not_on_cuda",
]
