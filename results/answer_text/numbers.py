"""Numbers as people and models write them in an answer, read exactly."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache

import regex

from results.answer_text.normal_form import fold
from results.answer_text.tokens import WITHIN_WORD, WORD

READ = (
    "digits of any script with sign, exponent, fraction (3/4), per cent (50% is 0.5), thousand to "
    "trillion, and separators: 1,234 and 1 234 are thousands, 1.5 and 2,5 decimals; a currency "
    "must not differ where both name one, and digits that touch letters (v2, 5km) are no number"
)

_GROUPED = (
    r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?"
    r"|[1-9]\d{0,2}(?:[ ]\d{3})+(?:\.\d+)?|[1-9]\d{0,2}(?:'\d{3})+(?:\.\d+)?"
)
_EUROPEAN = (
    r"[1-9]\d{0,2}(?:\.\d{3})+,\d+|[1-9]\d{0,2}(?:[ ]\d{3})+,\d+|[1-9]\d{0,2}(?:\.\d{3}){2,}"
)
_PLAIN = r"\d+,\d+|\d*\.\d+|\d+"
_WORDS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_EXPONENT_MAX = 10_000
_SEPARATORS = str.maketrans("", "", ",' ")
_NUMBER = regex.compile(
    rf"""(?<![\d.,:/^])(?<!\p{{L}}-)(?!{WITHIN_WORD})
    (?P<sign>(?<![\p{{L}}\p{{M}}\p{{N}})\]])[-+])?
    (?:\p{{L}}*(?P<before>\p{{Sc}})[ ]?(?P<inner>[-+])?)?
    (?: (?:(?P<whole>\d+)[ ])? (?P<over>\d+)[ ]?/[ ]?(?P<under>\d+)
      | (?:(?P<european>{_EUROPEAN})|(?P<digits>{_GROUPED}|{_PLAIN}))
        (?:e(?P<e>[-+]?\d+)|[ ]?[x×*·][ ]?10\^(?P<power>[-+]?\d+))? )
    (?![.,:/^]?\d|[/^])(?!{WITHIN_WORD})
    (?:(?P<percent>[ ]?(?:%|per[ ]?cent(?!{WORD})))|[ ](?P<times>{"|".join(_WORDS)})(?!{WORD}))?
    (?:[ ]?(?P<after>\p{{Sc}}))?""",
    regex.VERBOSE,
)


@dataclass(frozen=True)
class NumberInText:
    """A number of a text, and the sign of its currency if it has one."""

    value: Decimal
    currency: str | None

    def equals(self, other: NumberInText, tolerance: Tolerance | None) -> bool:
        """Whether both are the same amount; a relative tolerance is a share of `other`."""
        if self.currency and other.currency and self.currency != other.currency:
            return False
        if self.value == other.value:
            return True
        return tolerance is not None and abs(self.value - other.value) <= tolerance.around(
            other.value
        )


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be off: by `amount`, or by that share of the reference."""

    amount: Decimal
    relative: bool

    def around(self, reference: Decimal) -> Decimal:
        """The amount by which a number may be off `reference`."""
        return abs(reference) * self.amount if self.relative else self.amount


@lru_cache(maxsize=1 << 16)
def last_number(text: str) -> NumberInText | None:
    """The last number that a text names, None if no number has only one reading (`READ`)."""
    numbers = list(_NUMBER.finditer(fold(text)))
    if not numbers:
        return None
    number = numbers[-1]
    try:
        value = _value(number)
    except ArithmeticError:  # a fraction of nothing, an exponent that no Decimal holds
        return None
    if value and abs(value.adjusted()) > _EXPONENT_MAX:
        return None
    return NumberInText(value, number["before"] or number["after"])


def _value(number: regex.Match[str]) -> Decimal:
    if number["under"]:
        value = Decimal(number["whole"] or 0) + Decimal(number["over"]) / Decimal(number["under"])
    else:
        value = Decimal(
            f"{_plain(number)}e{number['e'] or number['power'] or 0}"
        )  # exact, as scaleb would not be
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    exponent += -2 if number["percent"] else _WORDS.get(number["times"], 0)
    return Decimal((int("-" in (number["sign"], number["inner"])), digits, exponent))


def _plain(number: regex.Match[str]) -> str:
    """The digits with a decimal point and nothing else between them."""
    if european := number["european"]:
        return str(european).replace(".", "").replace(" ", "").replace(",", ".")
    digits = str(number["digits"])
    return (
        digits.translate(_SEPARATORS)
        if regex.fullmatch(_GROUPED, digits)
        else digits.replace(",", ".")
    )


def parse_tolerance(value: object) -> Tolerance:
    """ "1%" of the reference, or an amount such as 0.01. Raises ValueError with what to write."""
    text = str(value).strip()
    try:
        amount = Decimal(text.removesuffix("%").rstrip()) if not isinstance(value, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or amount < 0 or not text.isascii() or "_" in text:
        raise ValueError(
            f"write an amount such as 0.01, or a share of the reference such as 1%, not {value!r}"
        )
    return Tolerance(amount.scaleb(-2), True) if text.endswith("%") else Tolerance(amount, False)
