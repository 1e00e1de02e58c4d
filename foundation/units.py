"""Parses quantities as people write them ("500ms", "0.1%", "$5000", "10M") into plain numbers.

Every parser takes a value from YAML or a command line. It returns a number in the unit of its
name, or raises `ValueError` with what to write instead. The `Annotated` types are for pydantic.

Every accepted text has one meaning. The decimal sign is a point. A comma must be a separator of
thousands without doubt. So "1,234,567" and "1,234.5" are accepted everywhere; "1,000" only for a
count, and "$5,000" for the dollar sign. "0,5s" and "1,000ms" are refused.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_NUMBER = re.compile(
    r"""\s*(?=[+-]?\.?\d)(?P<sign>[+-]?)
    (?:(?P<grouped>[1-9]\d{0,2}(?:,\d{3})+)|(?P<plain>\d+(?:_\d+)*))?
    (?P<point>\.\d*)? (?P<exponent>[eE][+-]?\d{1,4})?
    \s*(?P<unit>[^\s\d.,_]*)\s*""",
    re.VERBOSE | re.ASCII,
)
_SECONDS = {
    unit: Decimal(seconds)
    for unit, seconds in {
        "ns": "1e-9", "us": "1e-6", "µs": "1e-6", "ms": "1e-3",
        "s": "1", "m": "60", "min": "60", "h": "3600", "d": "86400",
    }.items()
}  # fmt: skip
_SCALE = {
    unit: Decimal(scale)
    for unit, scale in {"": "1", "k": "1e3", "K": "1e3", "M": "1e6", "B": "1e9", "G": "1e9"}.items()
}
_BYTES = {
    "": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_WHOLE_MAX = 2**63 - 1
_CENT = Decimal("0.01")


def _split(value: object, what: str, thousands: bool = False) -> tuple[Decimal, str]:
    """Number and unit. `thousands`: "1,000" can only mean a thousand."""
    match = _NUMBER.fullmatch(str(value))
    if isinstance(value, bool) or match is None:
        comma = ", with a decimal point and no comma (1.5, 5000)" if "," in str(value) else ""
        raise ValueError(f"write {what}{comma}, not {value!r}")
    grouped, point = match["grouped"], match["point"]
    if grouped and grouped.count(",") == 1 and not point and not (thousands and not match["unit"]):
        plain = grouped.replace(",", "")
        raise ValueError(
            f"write {what}; {value!r} may mean {grouped.replace(',', '.')} or {plain}: "
            f"write {plain} for that"
        )
    digits = (grouped or match["plain"] or "0").replace(",", "").replace("_", "")
    return Decimal(f"{match['sign']}{digits}{point or ''}{match['exponent'] or ''}"), match["unit"]


def _unsigned(value: object, what: str, thousands: bool = False) -> tuple[Decimal, str]:
    """Number and unit, zero or more. A plus sign would mark a relative number."""
    number, unit = _split(value, what, thousands)
    if number < 0:
        least = "" if "above zero" in what else ", zero or more"
        raise ValueError(f"write {what}{least}, not {value!r}")
    if str(value).strip().removeprefix("$").strip().startswith("+"):
        raise ValueError(f"write {what}, without a sign, not {value!r}")
    return abs(number), unit


def _float(number: Decimal, value: object, what: str) -> float:
    """The nearest float. Raises ValueError if it is infinite, or zero for another number."""
    result = float(number)
    if result == float("inf") or (number and not result):
        raise ValueError(f"write {what}, of a size that can be reckoned with, not {value!r}")
    return result


def _whole(number: Decimal, value: object, what: str) -> int:
    if number > _WHOLE_MAX:
        raise ValueError(f"write {what}, at most {_WHOLE_MAX}, not {value!r}")
    return int(number)


def parse_seconds(value: object) -> float:
    """A duration with its unit, in seconds: "500ms" is 0.5.

    A bare number is refused: it may mean s or ms.
    """
    what = "a duration with its unit, such as 500ms, 2s or 1m"
    number, unit = _unsigned(value, what)
    if unit not in _SECONDS:
        raise ValueError(f"write {what}, not {value!r}")
    return _float(number * _SECONDS[unit], value, what)


def parse_share(value: object) -> float:
    """A share from 0 to 1: "0.1%" is 0.001, and 0.85 is 0.85.

    A bare 1 is refused: it may mean 1 % or 100 %.
    """
    what = "a share, such as 0.85 or 85%"
    number, unit = _unsigned(value, what)
    if unit not in ("", "%"):
        raise ValueError(f"write {what}, not {value!r}")
    share = number * _CENT if unit else number
    if share > 1:
        raise ValueError(f"write {what}, between 0 and 1, not {value!r}")
    if share == 1 and not unit:
        raise ValueError(f"write 100% or 1%, not {value!r}, which may mean either")
    return _float(share, value, what)


def parse_change(value: object) -> float:
    """A relative change, zero or more: "20%" and 0.2 are 0.2, "150%" is 1.5.

    A bare 20 is refused: it may mean 20 % or 2000 %.
    """
    what = "a change, such as 20% or 0.2"
    number, unit = _split(value, what)
    if unit not in ("", "%"):
        raise ValueError(f"write {what}, not {value!r}")
    if number < 0:
        raise ValueError(f"write {what}, zero or more, not {value!r}")
    if number >= 1 and not unit:
        raise ValueError(
            f"write {number:f}% or {100 * number:f}%, not {value!r}, which may mean either"
        )
    return _float(abs(number * _CENT if unit else number), value, what)


def parse_factor(value: object) -> float:
    """A relative limit as a factor above zero: "1.1x" is 1.1, "+5%" is 1.05, "-5%" is 0.95."""
    what = "a limit relative to the baseline, such as 1.1x, +5% or -5%"
    number, unit = _split(value, what)
    signed = str(value).strip()[:1] in ("+", "-")
    if unit not in ("x", "%") or signed != (unit == "%"):
        raise ValueError(f"write {what}, not {value!r}")
    factor = number if unit == "x" else 1 + number * _CENT
    if factor <= 0:
        raise ValueError(f"write {what} that leaves more than nothing, not {value!r}")
    return _float(factor, value, what)


def parse_number(value: object) -> float:
    """A plain number, zero or more."""
    what = "a number, such as 64 or 0.5"
    number, unit = _unsigned(value, what)
    if unit:
        raise ValueError(f"write {what}, not {value!r}")
    return _float(number, value, what)


def parse_count(value: object) -> int:
    """A whole number: "10M" is 10,000,000."""
    what = "a whole number, such as 200, 5k or 10M"
    number, unit = _unsigned(value, what, thousands=True)
    if unit not in _SCALE or (count := number * _SCALE[unit]) != count.to_integral_value():
        raise ValueError(f"write {what}, not {value!r}")
    return _whole(count, value, what)


def parse_dollars(value: object) -> float:
    """An amount in dollars: "$5000", "$5,000", "$2.5k" or 5000."""
    what = "an amount in dollars, such as $5000 or $2.5"
    text = str(value).strip()
    number, unit = _unsigned(
        value if isinstance(value, bool) else text.removeprefix("$"),
        what,
        thousands=text[:1] == "$",
    )
    if unit not in _SCALE:
        raise ValueError(f"write {what}, not {value!r}")
    return _float(number * _SCALE[unit], value, what)


def parse_rate(value: object) -> float:
    """A number per second: 2.5, "120/s", "2k/s" or "600/min"."""
    what = "a rate above zero, such as 2.5, 120/s or 600/min"
    per = {"": 1, "/s": 1, "/m": 60, "/min": 60, "/h": 3600}
    number, unit = _unsigned(value, what)
    scale, slash, period = unit.partition("/")
    if slash + period not in per or scale not in _SCALE or not number:
        raise ValueError(f"write {what}, not {value!r}")
    return _float(number * _SCALE[scale] / per[slash + period], value, what)


def parse_bytes(value: object) -> int:
    """A size in bytes: "2GiB" is 2147483648; rounded down to whole bytes."""
    what = "a size, such as 512MiB or 2GiB"
    number, unit = _unsigned(value, what)
    if unit not in _BYTES:
        raise ValueError(f"write {what}, not {value!r}")
    return _whole(number * _BYTES[unit], value, what)


def _plain(number: Decimal) -> str:
    """The number without an exponent unless that is long: 500, 0.25, 1E-12."""
    return f"{number:f}" if abs(number.adjusted()) < 16 else str(number)


def format_seconds(seconds: float) -> str:
    """A text that `parse_seconds` parses to the same number: 0.5 is "500ms"."""
    number = Decimal(repr(seconds))
    return (
        f"{_plain((number * 1000).normalize())}ms"
        if seconds < 1
        else f"{_plain(number.normalize())}s"
    )


def format_share(share: float) -> float | str:
    """A value that `parse_share` and `parse_change` parse to the same number.

    From 1 on in per cent, since a bare number is ambiguous there.
    """
    return share if share < 1 else f"{_plain((Decimal(repr(share)) * 100).normalize())}%"


Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds),
    PlainSerializer(format_seconds, when_used="json-unless-none"),
]
Share = Annotated[
    float, BeforeValidator(parse_share), PlainSerializer(format_share, when_used="json-unless-none")
]
Change = Annotated[
    float,
    BeforeValidator(parse_change),
    PlainSerializer(format_share, when_used="json-unless-none"),
]
Count = Annotated[int, BeforeValidator(parse_count)]
Dollars = Annotated[float, BeforeValidator(parse_dollars)]
Rate = Annotated[float, BeforeValidator(parse_rate)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
