"""Reads a server's refusal: which field it refuses, and which request it would take.

OpenAI, Azure, vLLM, TGI, Ollama, Groq, Mistral, Gemini, LiteLLM and servers that check with
pydantic or serde all name the field that they refuse: in a `param`, in a `loc`, or in a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from foundation.http.endpoint import Form

# The statuses of a refusal. Some servers crash on a field that they do not know.
STATUSES = frozenset({400, 422, 500, 501})
_REFUSES = re.compile(
    r"unsupported|not supported|n't support|not support|unknown|unrecogni[sz]ed|unexpected|"
    r"not permitted|not allowed|invalid|must be|forbidden|extra|not a valid|can ?not|"
    r"only the default|no such|not available|deprecated",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(
    r"too large|too long|context length|context window|exceed|at most|at least|maximum|minimum",
    re.IGNORECASE,
)
_STATS = "stream_options.continuous_usage_stats"
_USAGE = "the server then reports no usage: the model's tokenizer counts, where one is known"
# Each field that a request can do without, and the consequence. The fields that bound an answer
# (max_tokens, stop) always stay.
OPTIONAL = {
    _STATS: "chunks then don't say how many tokens they carry",
    "stream_options": _USAGE,
    "top_p": "the server's own value holds",
    "temperature": "answers are drawn at the server's own temperature",
    "seed": "answers need not repeat",
    "top_k": "the server's own value holds",
    "min_p": "the server's own value holds",
    "repetition_penalty": "the server's own value holds",
    "min_tokens": "answers may be shorter than asked for",
    "ignore_eos": "answers may be shorter than asked for",
    "cache_salt": "the server's prefix cache may know what an earlier block asked",
}
_INNER = {"continuous_usage_stats": _STATS, "include_usage": "stream_options"}
_BOUND, _NEW_BOUND = "max_tokens", "max_completion_tokens"


@dataclass(frozen=True)
class Change:
    """The next form to try, and a sentence that says how requests differ from the usual ones."""

    form: Form
    note: str


def change_for(
    status: int | None, answer: bytes, body: Mapping[str, Any], form: Form
) -> Change | None:
    """The form that is one step closer to what the refusal demands; None where no step is possible.

    `body` is the refused request, in `form`. Fields that a person wrote into `form.extra` stay.
    """
    if status not in STATUSES:
        return None
    names = [name for name in (*OPTIONAL, _BOUND) if _is_in(name, body) and name not in form.extra]
    name = _named(answer, names)
    if name is None:
        return None
    if name == _BOUND:
        rename = {**form.rename, _BOUND: _NEW_BOUND}
        return Change(
            replace(form, rename=rename), f"{_BOUND} is sent as {_NEW_BOUND}, as the server asks"
        )
    return Change(
        replace(form, omit=(*form.omit, name)),
        f"requests leave out {name}, which the server refuses: {OPTIONAL[name]}",
    )


def _is_in(name: str, body: Mapping[str, Any]) -> bool:
    outer, _, inner = name.partition(".")
    return outer in body and (not inner or inner in body[outer])


def _named(answer: bytes, names: list[str]) -> str | None:
    """The name among `names` that a refusal is about."""
    text = answer.decode("utf-8", "replace")
    try:
        parsed = msgspec.json.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        parsed = text
    sentences = " ".join(node for node in _nodes(parsed) if isinstance(node, str))
    for words in _pointers(parsed):
        if (name := _first(words, names)) and not (name == _BOUND and _TOO_LARGE.search(sentences)):
            return name
    if not _REFUSES.search(sentences):
        return None
    if "both" in sentences and "top_p" in names and _at("top_p", sentences) is not None:
        return "top_p"  # its default is 1.0, which changes nothing
    name = _first(sentences, names)
    if name == _BOUND and _TOO_LARGE.search(sentences):
        return None
    return name


def _first(words: str, names: list[str]) -> str | None:
    """The name that comes first in a text. The name of an inner field stands for that field."""
    meanings = [*((name, name) for name in names), *_INNER.items()]
    places = [
        (place, name)
        for word, name in meanings
        if name in names and (place := _at(word, words)) is not None
    ]
    if any(name == _STATS for _, name in places):
        return _STATS  # its refusal names stream_options too
    return min(places, default=(0, None))[1]


def _at(word: str, text: str) -> int | None:
    match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    return match.start() if match else None


def _pointers(parsed: Any) -> Iterator[str]:
    """The places of the mistake that a refusal names: OpenAI's `param`, pydantic's `loc`."""
    for node in _nodes(parsed):
        if not isinstance(node, Mapping):
            continue
        if isinstance(param := node.get("param"), str):
            yield param
        if isinstance(loc := node.get("loc"), list):
            yield ".".join(str(part) for part in loc)


def _nodes(parsed: Any) -> Iterator[Any]:
    """Every value of a JSON document in order, at any depth."""
    waiting = [parsed]
    while waiting:
        yield (node := waiting.pop())
        inner = (
            node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
        )
        waiting.extend(reversed(list(inner)))
