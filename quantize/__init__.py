"""Merges an adapter into its base in full precision, and quantizes the result for vLLM.

In: a base model, an adapter, a method. Out: a checkpoint folder with `recipe.json` (source, method,
versions, sizes) and, on request, `recovery.json` (what quantizing lost). Start at `merging`, then
`methods` (the table of methods) and `quantization`, which chooses among the `writers` in this
process and `llmcompressor` in an environment of its own; `recovery` compares. Importing this
package loads no torch.
"""

from quantize.layers import count_weights
from quantize.merging.adapter_check import check_adapter
from quantize.merging.merge import check_merge, merge
from quantize.planned import planned_weights
from quantize.quantization import check_quantize, quantize
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
