"""The remedies there are, each with what it should do to the objective that binds.

`expected` comes from this run where it can be worked out (a part of the latency, a share of the
tokens, the base model's own speed), else from the publication that is named. It orders the list.
Only a measurement tells what a remedy does.
"""

from collections.abc import Callable

from results.decision.binding_case import BindingCase, Remedy
from results.decision.remedies.engine import compile_, replicas, speculate, step_budget
from results.decision.remedies.failures import failures, references
from results.decision.remedies.model import distil, eight_bits, four_bits, fp8, merge, prune
from results.decision.remedies.quality import gentler_quantization, milder_tuning, more_training
from results.decision.remedies.requests import fewer_tokens, other_style, shorter_prompt

__all__ = ["REMEDIES", "failures", "references"]

REMEDIES: tuple[Callable[[BindingCase], Remedy | None], ...] = (
    merge, eight_bits, fp8, four_bits, distil, prune, fewer_tokens, other_style, shorter_prompt,
    compile_, step_budget, speculate, replicas, gentler_quantization, milder_tuning, more_training,
    failures,
)  # fmt: skip
