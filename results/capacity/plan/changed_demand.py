"""The requests that a what-if asks of: other lengths, or those of another prompt style."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from foundation.arrays import Ints
from foundation.errors import BadInput
from foundation.section import nearest
from foundation.units import parse_number
from results.capacity.demand.demand import Demand
from results.capacity.plan.questions import PlanChange, PlanQuestion

Demands = Mapping[str, Demand | str]


def changed_demands(demands: Demands, styles: Mapping[str, str], question: PlanQuestion) -> Demands:
    """The requests of each variant under the question.

    `styles`: the prompt style of each variant. A text in place of requests is the reason why there
    are none. Raises BadInput for a style that no variant was measured with.
    """
    asked = question.prompt
    if asked is not None and asked not in styles.values():
        hint = nearest(asked, set(styles.values()))
        raise BadInput(
            f"--what-if {question.text!r}: no variant was measured with the prompt {asked!r}{hint}"
        )
    return {
        name: demand
        if isinstance(demand, str)
        else _changed(name, demand, demands, styles, question)
        for name, demand in demands.items()
    }


def _changed(
    name: str, demand: Demand, demands: Demands, styles: Mapping[str, str], question: PlanQuestion
) -> Demand | str:
    if question.prompt is not None and styles[name] != question.prompt:
        others = [demands[other] for other, style in styles.items() if style == question.prompt]
        other = next((each for each in others if isinstance(each, Demand)), None)
        if other is None:
            return f"no requests with the prompt {question.prompt} were measured"
        demand = with_prompts_of(demand, other)
    for change in question.of("input_tokens"):
        demand = _with_inputs(demand, scaled_tokens(demand.input_tokens, change))
    for change in question.of("output_tokens"):
        demand = replace(demand, output_tokens=scaled_tokens(demand.output_tokens, change))
    return demand


def with_prompts_of(demand: Demand, other: Demand) -> Demand:
    """The prompts of `other`, with answers as long as those of `demand`.

    All variants of a run are asked the same questions in the same order.
    """
    place = np.arange(len(other)) % len(demand)
    return replace(other, output_tokens=demand.output_tokens[place], adapter=demand.adapter[place])


def scaled_tokens(tokens: Ints, change: PlanChange) -> Ints:
    """The counts (n,) after a change, whole and at least 1."""
    number = parse_number(change.value)
    changed = tokens * number if change.sign == "*" else np.full(len(tokens), number)
    return np.asarray(np.maximum(np.rint(changed), 1), np.int64)


def _with_inputs(demand: Demand, tokens: Ints) -> Demand:
    """Other lengths of prompts; what they share is in proportion."""
    shared = demand.prefix_tokens * (tokens / demand.input_tokens)
    return replace(demand, input_tokens=tokens, prefix_tokens=np.floor(shared).astype(np.int64))
