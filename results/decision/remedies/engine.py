"""Remedies that change how a model is served: the engine's settings, and replicas."""

from __future__ import annotations

from collections.abc import Mapping

from foundation.format import quantity
from foundation.yaml_values import YamlValue
from results.decision.binding_case import BindingCase, Remedy
from results.decision.patch import Patch
from results.decision.remedies.requests import WAITING
from results.decision.work import RequestWork
from results.summary import Advice

REPLICAS = "replicas"
OVERLOAD = ("timeout_connect", "timeout_first", "timeout_stall", "timeout_total")
_BUDGET = "max-num-batched-tokens"
_SPECULATION = "speculative-config"
_DRAFTS: dict[str, YamlValue] = {
    "method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4,
}  # fmt: skip
_FEWEST_DRAFTED = 8
"""Shorter answers end before a draft can be worth its check."""
_DOCUMENTATION = "vLLM's documentation, Optimization and Tuning"


def compile_(case: BindingCase) -> Remedy | None:
    """Compiles a model whose server does not. With an adapter on a CPU a server can't."""
    if case.record.kind == "url" or not case.slow or _served(case).get("enforce_eager") is not True:
        return None
    if case.record.kind == "adapter" and not case.inputs.settings.accelerated:
        return None
    return Remedy(
        "compile",
        None,
        Advice(
            remedy="Compile the model",
            why="Compiled graphs decode faster than eager mode; a server starts later for it.",
            effect="not told beforehand; most where each step is short",
            source=_DOCUMENTATION,
        ),
        case.changed("compiled", serve=case.own("serve", enforce_eager=False)),
    )


def step_budget(case: BindingCase) -> Remedy | None:
    """Changes how many tokens of prompts and answers share a step."""
    budget = 2048 if case.about in ("tpot", "itl") else 16384
    if case.record.kind == "url" or not case.slow or _options(case).get(_BUDGET) == budget:
        return None
    return Remedy(
        f"{_BUDGET} {budget}",
        None,
        Advice(
            remedy="Tune the engine's flags",
            why=(
                "A smaller budget of tokens a step keeps prefill from stalling decoding, a larger "
                "one gets the first token out sooner."
            ),
            effect="not told beforehand; measure it",
            source=_DOCUMENTATION,
        ),
        case.changed(f"steps-{budget}", serve=_with_option(case, _BUDGET, budget)),
        work=RequestWork(step_tokens=budget),
    )


def speculate(case: BindingCase) -> Remedy | None:
    """Drafts tokens from the prompt, which an answer may repeat. A draft costs only its check."""
    if case.record.kind == "url" or not case.slow or case.about in ("prefill", *WAITING):
        return None
    drafts = any(name.partition(".")[0] == _SPECULATION for name in _options(case))
    if drafts or case.mean("output_tokens_mean") < _FEWEST_DRAFTED:
        return None
    return Remedy(
        "speculate ngram",
        None,
        Advice(
            remedy="Draft tokens from the prompt (speculative decoding, ngram)",
            why="Words of the prompt that come again in the answer are checked several a step.",
            effect="2 to 4 times the speed of decoding where answers quote; little elsewhere",
            source="A. Saxena, Prompt Lookup Decoding, 2023",
        ),
        case.changed("ngram", serve=_with_option(case, _SPECULATION, _DRAFTS)),
    )


def _served(case: BindingCase) -> Mapping[str, YamlValue]:
    """What the variant's server was started with; empty where nobody knows."""
    return case.inputs.settings.served.get(case.variant.variant, {})


def _options(case: BindingCase) -> Mapping[str, YamlValue]:
    """The options of the variant's engine, by their names with dashes."""
    engine = _served(case).get("engine")
    return engine if isinstance(engine, Mapping) else {}


def _with_option(case: BindingCase, name: str, value: YamlValue) -> dict[str, YamlValue]:
    """The variant's own keys of serve with an option of the engine more."""
    engine = case.own("serve").get("engine")
    return case.own(
        "serve", engine={**(engine if isinstance(engine, Mapping) else {}), name: value}
    )


def replicas(case: BindingCase) -> Remedy | None:
    """Adds replicas, which take away waiting.

    It applies where times bind, or where requests fail because they waited too long.
    """
    rate, overloaded = case.stage.offered_rate, case.stage.held is False
    late = (
        sum(case.stage.failures.get(name, 0) for name in OVERLOAD)
        > sum(case.stage.failures.values()) / 2
    )
    helps = (
        case.is_rate
        or case.about in ("latency", "ttft", *WAITING)
        or (case.about == "error_rate" and (overloaded or late))
    )
    if rate is None or not helps:
        return None
    waited = max(0.0, case.mean("ttft_mean") - case.mean("service_ttft_mean"))
    facts = []
    if case.stage.held is not None:
        facts.append(f"At {rate:g} requests/s {_keeps_up(case.stage.replicas, case.stage.held)}")
    facts += [f"{quantity(waited, 'ms')} pass before a request is sent"] if waited > 1 else []
    queued = case.mean("queue_mean")
    facts += [f"{quantity(queued, 'ms')} pass in the server's queue"] if queued > 1 else []
    return Remedy(
        REPLICAS,
        0.4 if overloaded else 0.9,
        Advice(
            remedy="Serve it with more replicas",
            why=f"{'; '.join(facts) or 'Requests share a replica with those beside them'}.",
            effect=(
                "takes away waiting, not work: the latency of an idle server is the least that "
                "can be had"
            ),
            source="queueing theory; measure a stage at a lower rate to see how much",
        ),
        Patch(sections={"workload": {"stages": [{"rate": _short(rate / 2), "duration": "60s"}]}}),
    )


def _keeps_up(replicas: int, held: bool) -> str:
    if replicas == 1:
        keeps = "keeps up" if held else "does not keep up: its queue grows"
        return f"one replica {keeps}"
    keep = "keep up" if held else "do not keep up: their queues grow"
    return f"{replicas} replicas {keep}"


def _short(rate: float) -> int | float:
    """The number as `%g` writes it."""
    number = float(f"{rate:g}")
    return int(number) if number.is_integer() else number
