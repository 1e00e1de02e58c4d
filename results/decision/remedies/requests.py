"""Remedies that make requests shorter: fewer tokens in the answer or in the prompt."""

from __future__ import annotations

from foundation.format import percent, quantity
from foundation.run.records import PLAIN
from results.decision.binding_case import BindingCase, Remedy
from results.decision.patch import Patch
from results.decision.work import RequestWork
from results.summary import Advice

FIRST_TOKEN = ("ttft", "service_ttft")
WAITING = ("wait", "queue")
_TOKEN_RATES = ("output_tokens_per_s", "total_tokens_per_s")
_NOT_BY_ANSWERS = (
    "quality", "change", "error_rate", "prefill", *FIRST_TOKEN, *WAITING, "tpot", "itl",
    *_TOKEN_RATES,
)  # fmt: skip


def fewer_tokens(case: BindingCase) -> Remedy | None:
    """Limits answers that are longer than the baseline's: a limit takes back that growth."""
    grown = case.stage.differences.get("output_tokens_mean")
    extra = grown.absolute.value if grown else None
    tokens = case.mean("output_tokens_mean")
    if not extra or extra <= 0 or not tokens or case.about in _NOT_BY_ANSWERS:
        return None
    parts, left = case.stage.decomposition, max(1, round(tokens - extra))
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
        "limit the answer",
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
        ),
        case.changed("limited", sampling={"stop": ["\n"], **case.own("sampling", max_tokens=left)}),
        work=RequestWork(output=left / tokens),
    )


def shorter_prompt(case: BindingCase) -> Remedy | None:
    """Shortens a prompt that makes a good part of what binds. Only its author can."""
    tokens, share = case.mean("input_tokens_mean"), case.prompt_share
    if not tokens or share < 0.1 or not _prompt_counts(case):
        return None
    of = (
        "of the mean latency passes before the first token"
        if case.slow
        else "of the price is input tokens"
    )
    return Remedy(
        "shorten the prompt",
        1 - share / 2,
        Advice(
            remedy="Shorten the prompt",
            why=(
                f"It is asked with {tokens:.0f} tokens, and {percent(share)} {of}. Tuned, it "
                "needs no examples or rules."
            ),
            effect=f"half the prompt takes off up to {percent(share / 2)}",
            source="this run",
        ),
        Patch(sections={"prompts": {"short": "{input}"}}),
    )


def _prompt_counts(case: BindingCase) -> bool:
    return (case.slow or case.about == "cost") and case.about not in (
        "tpot", "itl", "total_tokens_per_s", *WAITING,
    )  # fmt: skip


_CHARACTERS = 4.0
"""Of a token of English text, about."""


def other_style(case: BindingCase) -> Remedy | None:
    """Asks in a prompt style of the experiment that is shorter than the variant's own."""
    styles, own = case.inputs.settings.styles, case.variant.prompt_style
    tokens = case.mean("input_tokens_mean")
    if not tokens or own not in styles or not _prompt_counts(case):
        return None
    counts = {style: _tokens_with(case, style) for style in styles if style != own}
    if not counts:
        return None
    style, (count, source) = min(counts.items(), key=lambda each: each[1][0])
    if count >= 0.9 * tokens:
        return None
    work = RequestWork(input=count / tokens)
    return Remedy(
        f"prompt {style}",
        case.factor(work),
        Advice(
            remedy=f"Ask with the prompt {style}",
            why=f"It is asked with {tokens:.0f} tokens, and {style} takes about {count:.0f}.",
            effect=f"about {percent(1 - case.factor(work))} off",
            source=source,
        ),
        case.changed(style, prompt=style),
        work=work,
    )


def _tokens_with(case: BindingCase, style: str) -> tuple[float, str]:
    """The mean tokens of a prompt in a style, and who says so."""
    for other in case.measured.values():
        stage = other.at_judged_stage
        tokens = stage.metrics["input_tokens_mean"].value if stage else None
        if tokens and other.prompt_style == style != PLAIN:
            return tokens, f"this run: the prompts of {other.variant}"
    texts = case.inputs.settings.styles
    less = len(texts[case.variant.prompt_style]) - len(texts[style])
    fewer = max(1.0, case.mean("input_tokens_mean") - less / _CHARACTERS)
    return fewer, "the two texts, at 4 characters a token"
