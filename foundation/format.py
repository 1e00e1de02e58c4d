"""Formats numbers for readers: "412 ms", "1.93 s", "$0.042", "86.8 %", "+12 %", "−3.1 points"."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import floor, isclose, isfinite, log10

MINUS = "−"
ABSENT = "—"
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_FACTORS = {"s": 1e3, "%": 0.01, "points": 0.01} | {name: size for size, name in _BYTES}
_MORE = 12

Write = Callable[[float, int], str]
"""Formats a number; the second argument is the number of decimals beyond the usual."""


def plain(value: float, decimals: int) -> str:
    """Thousands separated, a true minus sign, and no "−0"."""
    text = f"{value:,.{decimals}f}"
    return (
        text.replace("-", MINUS)
        if any(digit in text for digit in "123456789")
        else text.removeprefix("-")
    )


def _digits(value: float, significant: int) -> int:
    """The number of decimals that shows `value` with so many significant digits; none if large."""
    if value == 0 or not isfinite(value):
        return 0
    rounded = float(f"{abs(value):.{significant - 1}e}")  # 9.999 is written 10.0, not 10.00
    return max(0, significant - 1 - floor(log10(rounded) + 1e-12))


def significant(value: float, digits: int = 3, more: int = 0) -> str:
    """A number with so many significant digits, and `more` decimals."""
    return plain(value, _digits(value, digits) + more)


def rate_text(per_second: float) -> str:
    """A rate with three significant digits, and whole above them: "0.25", "156", "1,200"."""
    return f"{per_second:.3g}" if abs(per_second) < 999.5 else f"{per_second:,.0f}"


def quantity(value: float | None, unit: str, more: int = 0) -> str:
    """A value with its unit, scaled to be read, with `more` decimals than usual.

    `unit` is one of `results.summary.Metric.unit`; another is printed as it is.
    """
    if value is None:
        return ABSENT
    if unit == "ms":
        if abs(value) >= 1e3:
            return f"{significant(value / 1e3, more=more)} s"
        return f"{significant(value, more=more)} ms"
    if unit == "share":
        return percent(value, more)
    if unit == "$":
        return dollars(value, more)
    if unit == "bytes":
        size, name = next((step for step in _BYTES if abs(value) >= step[0]), _BYTES[-1])
        return f"{significant(value / size, more=more)} {name}"
    return f"{significant(value, more=more)} {unit}".strip()


def written(unit: str, value: float, more: int) -> str:
    """`quantity`, as a `Write` of one unit."""
    return quantity(value, unit, more)


def percent(share: float, more: int = 0) -> str:
    """0.868 is "86.8 %".

    Within 1 % of 0 or 100 % it keeps two digits: 99.96 % never reads as 100 %.
    """
    points = round(share * 100, 12)
    decimals = (
        0 if points in (0, 100) else max(1, min(4, _digits(min(abs(points), abs(100 - points)), 2)))
    )
    return f"{plain(points, decimals + more)} %"


def dollars(value: float, more: int = 0) -> str:
    """Cents from one dollar up, and three digits below it.

    Whole dollars from a thousand up and for amounts without cents.
    """
    size = abs(value)
    if size >= 1000 or size == int(size):
        decimals = 0
    elif size >= 1:
        decimals = 2
    else:
        decimals = max(2, len(f"{size:.{_digits(size, 3)}f}".rstrip("0").partition(".")[2]))
    if more and size >= 1:
        # From whole dollars the first step is to cents.
        decimals = max(decimals, 2) + more - (decimals < 2)
    elif more:
        decimals += more
    return f"{MINUS if value < 0 else ''}${plain(size, decimals)}"


def with_error(value: float, error: float, unit: str) -> str:
    """A value and how far it may be off, to a digit of the error: "61 ± 5 ms", "7.0 ± 0.4 ms"."""
    decimals = _digits(error, 1) if error else _digits(value, 3)
    return f"{plain(value, decimals)} ± {plain(error, decimals)} {unit}"


def signed(text: str, value: float) -> str:
    """The text of a value with a plus sign if the value, as written, is positive."""
    return text if value < 0 or not any(digit in text for digit in "123456789") else f"+{text}"


def change(relative: float, more: int = 0) -> str:
    """A relative difference: 0.12 is "+12 %"; under 10 % it keeps one decimal."""
    points = relative * 100
    text = f"{plain(points, (1 if abs(points) < 9.95 else 0) + more)} %"
    return signed(text, points)


def points(difference: float, more: int = 0) -> str:
    """A difference between two shares, in percentage points."""
    return signed(f"{plain(difference * 100, 1 + more)} points", difference)


def read(text: str) -> float:
    """The number in a text of this module, in the unit before formatting."""
    parts = re.fullmatch(r"([^\d]*)([\d,]*\.?\d+) ?(.*)", text)
    if parts is None:
        raise ValueError(f"{text!r} holds no number")
    size = float(parts[2].replace(",", "")) * _FACTORS.get(parts[3], 1.0)
    return -size if MINUS in parts[1] else size


def exactly(value: float, write: Write) -> str | None:
    """A number with all its decimals; None if that takes over four more than usual."""
    return next(
        (
            text
            for more in range(5)
            if isclose(read(text := write(value, more)), value, rel_tol=1e-12)
        ),
        None,
    )


def limit_text(limit: float, write: Write) -> str:
    """A limit: unrounded if somebody wrote it, rounded if it was computed."""
    return exactly(limit, write) or write(limit, 0)


def beside(values: Sequence[float], limit: float, write: Write) -> tuple[list[str], str]:
    """Texts of values and of their limit; the decimals show each value on its side of it."""
    whole = exactly(limit, write)
    for more in range(_MORE + 1):
        limit_as_text = whole or write(limit, more)
        texts = [_on_its_side(value, limit, read(limit_as_text), write) for value in values]
        if None not in texts:
            break
    rounded = [text or write(value, _MORE) for text, value in zip(texts, values, strict=True)]
    return rounded, limit_as_text


def _on_its_side(value: float, limit: float, shown_limit: float, write: Write) -> str | None:
    """The shortest text that shows a value on its side of the limit, or None."""
    true_side = side(value, limit)
    texts = (write(value, more) for more in range(_MORE + 1))
    return next((text for text in texts if side(read(text), shown_limit) == true_side), None)


def side(value: float, limit: float) -> int:
    """-1 below the limit, 1 above it, 0 on it; float rounding errors count as "on it"."""
    return 0 if isclose(value, limit, rel_tol=1e-12, abs_tol=1e-15) else 1 if value > limit else -1


def difference(value: float, unit: str) -> str:
    """An absolute difference with its unit."""
    return points(value) if unit == "share" else signed(quantity(value, unit), value)


def between(low: str, high: str) -> str:
    """Two texts as an interval, with a common unit once: "398 to 431 ms"."""
    number, _, unit = low.rpartition(" ")
    return f"{number if number and high.endswith(f' {unit}') else low} to {high}"


def interval(low: float | None, high: float | None, unit: str) -> str:
    """An interval in words; empty if an end is missing."""
    return "" if low is None or high is None else between(quantity(low, unit), quantity(high, unit))


def duration(seconds: float) -> str:
    """45 is "45 s", 600 "10 min", 10,000 "2.8 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def shortened(words: str, most: int = 200) -> str:
    """Foreign text in one line of at most `most` characters, with U+FFFD for control characters."""
    flat = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for letter in " ".join(words.split())
    )
    return flat if len(flat) <= most else f"{flat[:most]}..."


def argument(path: object) -> str:
    """A path as a shell takes it in a command that a person copies."""
    return shlex.quote(str(path))


def capital(text: str) -> str:
    """The text with its first letter in upper case; the others stay."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Scale:
    """One unit and one number of decimals for a whole row or axis, so that its numbers line up."""

    unit: str
    factor: float
    decimals: int

    def __call__(self, value: float | None) -> str:
        """The value's text, without the unit."""
        return ABSENT if value is None else plain(value * self.factor, self.decimals)

    def read(self, value: float) -> float:
        """The value that its text shows."""
        return round(value * self.factor, self.decimals) / self.factor


def scale(values: Iterable[float | None], unit: str) -> Scale:
    """The scale that shows three significant digits of the largest value, two of the smallest."""
    sizes = [abs(v) for v in values if v]
    largest, smallest = max(sizes, default=0.0), min(sizes, default=0.0)
    name, factor = unit, 1.0
    if unit == "share":
        name, factor = "%", 100.0
    elif unit == "ms" and largest >= 1e4:
        name, factor = "s", 1e-3
    elif unit == "$" and 0 < largest < 1e-3:
        name, factor = "$ per 1,000", 1e3
    elif unit == "bytes":
        size, name = next((step for step in _BYTES if largest >= step[0]), _BYTES[-1])
        factor = 1 / size
    if unit == "share":
        decimals = min(7, max(1, _digits(largest * 100, 2)))
    else:
        decimals = min(
            7,
            max(
                _digits(largest * factor, 3),
                min(_digits(smallest * factor, 2), _digits(largest * factor, 3) + 2),
            ),
        )
    return Scale(name, factor, decimals)
