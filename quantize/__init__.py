"""Adapter and base in, a checkpoint out: merge in full precision, then quantize as vLLM serves it.

In: a base model, an adapter, a method. Out: a checkpoint folder with `recipe.json`: from what, how, with which versions, sizes.
Start at `merge`, then `methods`; `adapter` tells whether an adapter belongs to a base, `support` where a method can be served.
Importing this package loads no torch.
"""

from quantize.adapter import check_adapter
from quantize.merge import merge
from quantize.methods import quantize
from quantize.support import why_not_on_cpu

__all__ = ["check_adapter", "merge", "quantize", "why_not_on_cpu"]
