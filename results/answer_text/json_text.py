"""Reads JSON as RFC 8259 defines it, with exact numbers and bounded nesting."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import regex

DEPTH = 200
"""The levels of nesting that are read; the RFC lets a reader set a limit."""

_SPACE = " \t\n\r"
_FENCE = regex.compile(r"```\w*[ \t]*\r?\n(.*?)\r?\n?```", regex.DOTALL)
_STRING = regex.compile(r'"(?:[^"\\]|\\.)*+"', regex.DOTALL)


class Pairs(list[tuple[str, Any]]):
    """An object's names and values in their order; a repeated name stays repeated."""


def parse(text: str) -> Any:
    """The value of a JSON text, with or without a ``` fence around it.

    Objects are `Pairs`, numbers exact `Decimal`s. A number whose exponent `Decimal` can't hold is
    the tuple of its text. Raises ValueError for more than `DEPTH` levels and for what RFC 8259 does
    not allow: NaN, Infinity, a byte order mark, text around the value.
    """
    text = text.strip(_SPACE)
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1]
    _check_depth(text)
    return json.loads(
        text,
        object_pairs_hook=Pairs,
        parse_int=_number,
        parse_float=_number,
        parse_constant=_no_constant,
    )


def same(a: Any, b: Any) -> bool:
    """Whether two values of `parse` are equal: 1 and 1.0 are, 1 and true are not.

    The order of names does not matter.
    """
    pairs = [(a, b)]
    while pairs:
        a, b = pairs.pop()
        if type(a) is not type(b):
            return False
        if isinstance(a, Pairs):
            ours, theirs = dict(a), dict(b)
            if ours.keys() != theirs.keys() or not len(a) == len(b) == len(ours):
                return False
            pairs += [(value, theirs[name]) for name, value in ours.items()]
        elif isinstance(a, list):
            if len(a) != len(b):
                return False
            pairs += zip(a, b, strict=True)
        elif a != b:
            return False
    return True


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in regex.findall(r"[][{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEPTH:
            raise ValueError(f"nested more than {DEPTH} levels deep")


def _number(text: str) -> Decimal | tuple[str]:
    try:
        return Decimal(text)
    except InvalidOperation:
        return (text,)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
