"""Quantities as people write them ("500ms", "0.1%", "$5000", "10M"), read into plain numbers.

Every parser takes what YAML or a command line hands over and returns a number in the unit that its name says,
or raises `ValueError` with what to write instead. The `Annotated` types below are for pydantic fields.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_NUMBER = r"([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9}
_BYTES = {
    "": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


def _split(value: object, what: str) -> tuple[float, str]:
    match = re.fullmatch(rf"\s*{_NUMBER}\s*([^\s\d]*)\s*", str(value))
    if isinstance(value, bool) or match is None:
        raise ValueError(f"write {what}, not {value!r}")
    return float(match[1].replace(",", "").replace("_", "")), match[2]


def _nonnegative(number: float, value: object, what: str) -> float:
    if number < 0:
        raise ValueError(f"write {what}, zero or more, not {value!r}")
    return number


def parse_seconds(value: object) -> float:
    """A duration with its unit, in seconds: "500ms" is 0.5. A bare number is refused, since nobody can tell s from ms."""
    what = "a duration with its unit, such as 500ms, 2s or 1m"
    number, unit = _split(value, what)
    if unit not in _SECONDS:
        raise ValueError(f"write {what}, not {value!r}")
    return _nonnegative(number * _SECONDS[unit], value, what)


def parse_share(value: object) -> float:
    """A share from 0 to 1: "0.1%" is 0.001, and 0.85 is 0.85."""
    what = "a share, such as 0.85 or 85%"
    number, unit = _split(value, what)
    if unit not in ("", "%"):
        raise ValueError(f"write {what}, not {value!r}")
    share = number / 100 if unit == "%" else number
    if not 0 <= share <= 1:
        raise ValueError(f"write {what}, between 0 and 1, not {value!r}")
    return share


def parse_change(value: object) -> float:
    """A relative change, zero or more: "20%" and 0.2 are 0.2. It may pass 1 ("150%")."""
    what = "a change, such as 20% or 0.2"
    number, unit = _split(value, what)
    if unit not in ("", "%"):
        raise ValueError(f"write {what}, not {value!r}")
    return _nonnegative(number / 100 if unit == "%" else number, value, what)


def parse_count(value: object) -> int:
    """A whole number: "10M" is 10,000,000."""
    what = "a whole number, such as 200, 5k or 10M"
    number, unit = _split(value, what)
    if unit not in _SCALE or not (number * _SCALE[unit]).is_integer():
        raise ValueError(f"write {what}, not {value!r}")
    return int(_nonnegative(number * _SCALE[unit], value, what))


def parse_dollars(value: object) -> float:
    """An amount in dollars: "$5000", "$2.5k" or 5000."""
    what = "an amount in dollars, such as $5000 or $2.5"
    number, unit = _split(str(value).strip().removeprefix("$"), what)
    if unit not in _SCALE or isinstance(value, bool):
        raise ValueError(f"write {what}, not {value!r}")
    return _nonnegative(number * _SCALE[unit], value, what)


def parse_rate(value: object) -> float:
    """Requests per second: 2.5, "120/s" or "600/min"."""
    what = "a rate above zero, such as 2.5, 120/s or 600/min"
    per = {"": 1.0, "/s": 1.0, "/m": 60.0, "/min": 60.0, "/h": 3600.0}
    number, unit = _split(value, what)
    if unit not in per or number <= 0:
        raise ValueError(f"write {what}, not {value!r}")
    return number / per[unit]


def parse_bytes(value: object) -> int:
    """A size in bytes: "2GiB" is 2147483648."""
    what = "a size, such as 512MiB or 2GiB"
    number, unit = _split(value, what)
    if unit not in _BYTES:
        raise ValueError(f"write {what}, not {value!r}")
    return int(_nonnegative(number * _BYTES[unit], value, what))


def format_seconds(seconds: float) -> str:
    """What `parse_seconds` reads back: 0.5 is "500ms"."""
    return f"{seconds * 1e3:.12g}ms" if seconds < 1 else f"{seconds:.12g}s"


Seconds = Annotated[float, BeforeValidator(parse_seconds), PlainSerializer(format_seconds, when_used="json-unless-none")]
Share = Annotated[float, BeforeValidator(parse_share)]
Change = Annotated[float, BeforeValidator(parse_change)]
Count = Annotated[int, BeforeValidator(parse_count)]
Dollars = Annotated[float, BeforeValidator(parse_dollars)]
Rate = Annotated[float, BeforeValidator(parse_rate)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
