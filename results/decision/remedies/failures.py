"""Remedies for measurements that say little of the model: failed requests, missing references."""

from __future__ import annotations

from results.decision.binding_case import BindingCase, Remedy
from results.decision.remedies.engine import OVERLOAD
from results.summary import Advice

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
    **dict.fromkeys(OVERLOAD, _WAITED),
    **dict.fromkeys(("dropped", "cancelled"), _CLIENT),
}


def failures(case: BindingCase) -> Remedy | None:
    """Looks for the cause of failures that bind, or that keep what binds from being judged."""
    if not case.stage.failures or not (
        case.about == "error_rate" or case.is_rate or not case.bounded
    ):
        return None
    most = max(case.stage.failures, key=lambda name: case.stage.failures[name])
    first = f" The first: {case.stage.examples[most]}" if most in case.stage.examples else ""
    lost = sum(case.stage.failures.values()) / case.stage.planned
    return Remedy(
        "repair",
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
    """Gives the prompts references, where there is nothing to score answers by."""
    if case.about not in ("quality", "change") or case.binding.value.value is not None:
        return None
    return Remedy(
        "references",
        0.2,
        Advice(
            remedy="Give the prompts that are asked a reference each",
            why=f"{case.binding.sentence}.",
            effect="answers that can be scored",
            source="this run",
        ),
    )
