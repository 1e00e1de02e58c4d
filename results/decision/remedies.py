"""The remedies there are, each with what it should do to the objective that binds.

`expected` is what the binding value is multiplied by if the remedy works: from this run where it
can be worked out (a part of the latency, a share of the tokens), else from the publication that is
named. It orders the list; nothing is promised.
"""

from __future__ import annotations

from collections.abc import Callable

from foundation.format import percent, quantity
from results.decision.binding_case import BindingCase, Remedy
from results.summary import Advice

_FIRST_TOKEN = ("ttft", "service_ttft")
_WAITING = ("wait", "queue")
_TOKEN_RATES = ("output_tokens_per_s", "total_tokens_per_s")


def _merge(case: BindingCase) -> Remedy | None:
    if case.record.kind != "adapter" or not case.hardware:
        return None
    return Remedy(
        0.6,
        Advice(
            remedy="Merge the adapter into the base model",
            why=(
                "A served adapter adds its own matrix products to every layer, and turns off "
                "optimisations of the engine."
            ),
            effect=(
                "the speed of the base model; the adapter's cost is largest on a CPU and with "
                "small batches"
            ),
            source=(
                "E. J. Hu et al., LoRA, 2021: merged weights have no inference latency of their own"
            ),
            change=case.variant_line("merged", merge="finetune"),
        ),
    )


def _quantize(case: BindingCase) -> Remedy | None:
    if case.record.kind in ("quantized", "url") or not case.hardware:
        return None
    return Remedy(
        0.64,
        Advice(
            remedy="Quantize: 8-bit weights and activations, or 4-bit weights",
            why=(
                "Decoding reads every weight for every token; fewer bytes are read faster, and "
                "8-bit products are cheaper."
            ),
            effect=(
                "up to 1.56 times the speed and half the memory with 8 bits; well tuned, it costs "
                "1 to 3 % of the score"
            ),
            source=(
                "G. Xiao et al., SmoothQuant, 2022 (speed); E. Kurtic et al., Give Me BF16 or "
                "Give Me Death?, 2024 (score)"
            ),
            change=case.variant_line("int8", **case.tuned, quantize="w8a8-int8"),
        ),
    )


def _prune(case: BindingCase) -> Remedy | None:
    if case.record.kind == "url" or not case.hardware:
        return None
    return Remedy(
        0.75,
        Advice(
            remedy="Prune layers, then tune again (layer pruning)",
            why=(
                "Latency goes with the number of layers, and the deeper ones of a chat model "
                "change an answer little."
            ),
            effect=(
                "up to half of the layers went with little loss in answering questions, once "
                "healed by a short fine-tune"
            ),
            source="A. Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers, 2024",
            change=case.variant_line("pruned", prune="25%"),
        ),
    )


def _distil(case: BindingCase) -> Remedy | None:
    if not (case.slow or case.about == "cost"):
        return None
    return Remedy(
        0.625,
        Advice(
            remedy="Distil to a smaller model (distillation)",
            why=(
                "On a narrow task a small model that learns from this one's answers keeps most of "
                "its quality."
            ),
            effect=(
                "1.6 times the speed at 97 % of the quality with 40 % fewer weights, in the "
                "example that is best known"
            ),
            source="V. Sanh et al., DistilBERT, 2019",
            change=case.variant_line("student", prune="50%", distil=case.variant.variant),
        ),
    )


def _fewer_tokens(case: BindingCase) -> Remedy | None:
    """Only for answers longer than the baseline's: a limit takes back that growth."""
    grown = case.stage.differences.get("output_tokens_mean")
    extra = grown.absolute.value if grown else None
    tokens = case.mean("output_tokens_mean")
    if (
        not extra
        or extra <= 0
        or not tokens
        or case.about
        in (
            "quality",
            "change",
            "error_rate",
            "prefill",
            *_FIRST_TOKEN,
            *_WAITING,
            "tpot",
            "itl",
            *_TOKEN_RATES,
        )
    ):
        return None
    parts = case.stage.decomposition
    share = (1 - case.prompt_share) * extra / tokens
    effect = (
        f"back to the baseline's {tokens - extra:.0f} tokens an answer: about {percent(share)} off"
    )
    if case.slow and parts and parts.verbosity.value and case.mean("latency_mean"):
        share = min(0.99, max(0.0, parts.verbosity.value / case.mean("latency_mean")))
        effect = (
            f"the {extra:.0f} tokens more than the baseline's make "
            f"{quantity(parts.verbosity.value, 'ms')} of the mean latency"
        )
    return Remedy(
        1 - share,
        Advice(
            remedy=(
                "Limit the answer: a token limit, a stop sequence, or training answers that end "
                "sooner"
            ),
            why=(
                f"It answers with {tokens:.0f} tokens on average, {extra:.0f} more than the "
                "baseline."
            ),
            effect=effect,
            source="this run",
            change=(
                f"workload:\n  sampling: {{max_tokens: {max(1, round(tokens - extra))}, stop: "
                '["\\n"]}'
            ),
        ),
    )


def _shorter_prompt(case: BindingCase) -> Remedy | None:
    tokens, share = case.mean("input_tokens_mean"), case.prompt_share
    if (
        not tokens
        or share < 0.1
        or not (case.slow or case.about == "cost")
        or case.about in ("tpot", "itl", "total_tokens_per_s", *_WAITING)
    ):
        return None
    of = (
        "of the mean latency passes before the first token"
        if case.slow
        else "of the price is input tokens"
    )
    return Remedy(
        1 - share / 2,
        Advice(
            remedy="Shorten the prompt",
            why=(
                f"It is asked with {tokens:.0f} tokens, and {percent(share)} {of}. Tuned, it "
                "needs no examples or rules."
            ),
            effect=f"half the prompt takes off up to {percent(share / 2)}",
            source="this run",
            change="prompts:\n  short: |-\n    {input}",
        ),
    )


def _engine(case: BindingCase) -> Remedy | None:
    if case.record.kind == "url" or not case.slow:
        return None
    budget = 2048 if case.about in ("tpot", "itl") else 16384
    return Remedy(
        0.8,
        Advice(
            remedy="Tune the engine's flags",
            why=(
                "Compiled graphs decode faster than eager mode. A smaller budget of tokens a step "
                "keeps prefill from stalling decoding, a larger one gets the first token out "
                "sooner."
            ),
            effect="not told beforehand; measure it",
            source="vLLM's documentation, Optimization and Tuning",
            change=(
                f"serve:\n  enforce_eager: false\n  engine: {{max-num-batched-tokens: {budget}}}"
            ),
        ),
    )


_OVERLOAD = ("timeout_connect", "timeout_first", "timeout_stall", "timeout_total")


def _replicas(case: BindingCase) -> Remedy | None:
    """Takes away waiting: where times bind, or where requests fail because they waited too long."""
    rate, overloaded = case.stage.offered_rate, case.stage.held is False
    late = (
        sum(case.stage.failures.get(name, 0) for name in _OVERLOAD)
        > sum(case.stage.failures.values()) / 2
    )
    helps = (
        case.is_rate
        or case.about in ("latency", "ttft", *_WAITING)
        or (case.about == "error_rate" and (overloaded or late))
    )
    if rate is None or not helps:
        return None
    waited = max(0.0, case.mean("ttft_mean") - case.mean("service_ttft_mean"))
    keeps_up = {
        True: "one replica keeps up",
        False: "one replica does not keep up: its queue grows",
    }
    facts = (
        [f"At {rate:g} requests/s {keeps_up[case.stage.held]}"]
        if case.stage.held is not None
        else []
    )
    facts += [f"{quantity(waited, 'ms')} pass before a request is sent"] if waited > 1 else []
    queued = case.mean("queue_mean")
    facts += [f"{quantity(queued, 'ms')} pass in the server's queue"] if queued > 1 else []
    return Remedy(
        0.4 if overloaded else 0.9,
        Advice(
            remedy="Serve it with more replicas",
            why=f"{'; '.join(facts) or 'Requests share a replica with those beside them'}.",
            effect=(
                "takes away waiting, not work: the latency of an idle server is the least that "
                "can be had"
            ),
            source="queueing theory; measure a stage at a lower rate to see how much",
            change=f"workload:\n  stages:\n    - {{rate: {rate / 2:g}, duration: 60s}}",
        ),
    )


def _gentler_quantization(case: BindingCase) -> Remedy | None:
    if case.about not in ("quality", "change") or case.record.kind != "quantized":
        return None
    # Eight bits are less only where four are recorded; not to quantize always is.
    again = (
        {"suffix": "int8", "quantize": "w8a8-int8"}
        if case.record.weight_bits == 4
        else {"suffix": "merged"}
    )
    return Remedy(
        0.5,
        Advice(
            remedy="Quantize less",
            why=(
                "What quality was lost against the merged model was lost in rounding: 8 bits "
                "round less than 4."
            ),
            effect=(
                "all that rounding cost; with 8 bits Llama 3.1 8B keeps 98.8 to 105 % of its scores"
            ),
            source="Neural Magic's model card of Meta-Llama-3.1-8B-Instruct-quantized.w8a8, 2024",
            change=case.variant_line(**again, **case.tuned),
        ),
    )


def _milder_tuning(case: BindingCase) -> Remedy | None:
    if case.about != "change" or case.record.kind in ("model", "url"):
        return None
    return Remedy(
        0.6,
        Advice(
            remedy="Tune more gently: fewer epochs, a lower rank, or general examples mixed in",
            why=(
                "Narrow tuning forgets what it does not practise. The adapter of every epoch is "
                "kept: try an earlier one."
            ),
            effect="less learned is less forgotten: the two lie on one curve",
            source="D. Biderman et al., LoRA Learns Less and Forgets Less, 2024",
            change="finetune:\n  epochs: 1\n  rank: 8",
        ),
    )


def _more_data(case: BindingCase) -> Remedy | None:
    if case.about != "quality" or case.record.kind == "url":
        return None
    return Remedy(
        0.7,
        Advice(
            remedy="Teach it more: more examples first, then epochs or rank",
            why=f"{case.binding.sentence}.",
            effect="1,000 well chosen examples were enough to teach a 65 B model how to answer",
            source="C. Zhou et al., LIMA, 2023",
            change="finetune:\n  limit: null\n  epochs: 2",
        ),
    )


_SERVER = (
    "the server's log tells the cause; an error rate is brought down there, not by more hardware"
)
_REFUSED = (
    "a refused request is refused again: its words tell what to change in model, prompt or "
    "parameters"
)
_UNREAD = "the answer itself tells whether it breaks the API's format or tunedyno reads it wrongly"
_NETWORK = (
    "look for what closes or refuses connections between here and the server: proxies, limits, "
    "restarts"
)
_WAITED = (
    "fewer requests at once, a faster server or, if such an answer may take so long, a longer "
    "deadline"
)
_CLIENT = "a higher workload.max_in_flight, or a lower rate: these requests were never sent"
_WHAT_TO_DO = {
    "http_4xx": _REFUSED,
    "malformed": _UNREAD,
    **dict.fromkeys(("connect", "tls", "reset", "truncated"), _NETWORK),
    **dict.fromkeys(_OVERLOAD, _WAITED),
    **dict.fromkeys(("dropped", "cancelled"), _CLIENT),
}


def failures(case: BindingCase) -> Remedy | None:
    """Where failures bind, or are too many for what binds to be judged."""
    if not case.stage.failures or not (
        case.about == "error_rate" or case.is_rate or not case.bounded
    ):
        return None
    most = max(case.stage.failures, key=lambda name: case.stage.failures[name])
    first = f" The first: {case.stage.examples[most]}" if most in case.stage.examples else ""
    lost = sum(case.stage.failures.values()) / case.stage.planned
    return Remedy(
        1 - lost if case.is_rate and case.bounded else 0.1,
        Advice(
            remedy=f"Find out why requests fail with {most}",
            why=(
                f"{case.stage.failures[most]} of {sum(case.stage.failures.values())} failures are "
                f"of this class.{first}"
            ),
            effect=_WHAT_TO_DO.get(most, _SERVER),
            source="this run",
        ),
    )


def references(case: BindingCase) -> Remedy | None:
    """Where there is nothing to score answers by."""
    if case.about not in ("quality", "change") or case.binding.value.value is not None:
        return None
    return Remedy(
        0.2,
        Advice(
            remedy="Give the prompts that are asked a reference each",
            why=f"{case.binding.sentence}.",
            effect="answers that can be scored",
            source="this run",
        ),
    )


REMEDIES: tuple[Callable[[BindingCase], Remedy | None], ...] = (
    _merge, _quantize, _distil, _prune, _fewer_tokens, _shorter_prompt, _engine, _replicas,
    _gentler_quantization, _milder_tuning, _more_data, failures,
)  # fmt: skip
