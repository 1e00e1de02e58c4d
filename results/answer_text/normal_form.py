"""The text that scorers compare: equal characters, and what around an answer is ignored."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import regex

FOLDED = (
    "Unicode compatible forms, letter case, forms of quotes, hyphens and decimal digits, "
    "invisible characters and the number of spaces do not matter"
)
TRIMMED = "nor do quotes or Markdown marks around the whole, or a sentence's end mark after it"

_DIGIT, _FRACTION, _POWER = r"\p{Nd}", "[¼-¾⅐-⅞↉]", "[⁰¹²³⁴-⁹⁺⁻]"
_INVISIBLE = regex.compile(r"\p{Default_Ignorable_Code_Point}")
_POWERS = regex.compile(rf"(?<={_DIGIT})(?={_POWER})(?<!{_POWER})")
_FRACTIONS = regex.compile(rf"(?<={_DIGIT})(?={_FRACTION})")
_OTHER_DIGIT = regex.compile(r"[^\P{Nd}0-9]")
# Casefolding turns the Turkish İ into i and a dot, and ı is the small letter of I. Here all four
# are one letter.
_SAME = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "‚": "'",
        "“": '"',
        "”": '"',
        "„": '"',
        "‐": "-",
        "‒": "-",
        "–": "-",
        "−": "-",
    }
    | {"٫": ".", "٬": ",", "٪": "%", "⁄": "/", "ı": "i"}
)
_WRAPPERS = [
    regex.compile(rf"({mark}){{1,3}}(?P<inner>[^{mark}]+)({mark}){{1,3}}")
    for mark in ('"', "'", "`", r"\*")
] + [
    regex.compile(rf"{left}(?P<inner>[^{left}{right}]+){right}")
    for left, right in ("«»", "»«", "‹›", "「」", "『』")
]  # fmt: skip
_END = regex.compile(
    r"(?<=[\p{L}\p{M}])\p{Sentence_Terminal}+$|(?<=[^\s\p{Sentence_Terminal}])[.。।۔]+$"
)


def fold(text: str) -> str:
    """The text without the differences that `FOLDED` names: case, NFKC forms and a few signs.

    A raised digit behind a digit stays a power: "10²" is "10^2", where NFKC alone makes 102 of it.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    text = _FRACTIONS.sub(" ", _POWERS.sub("^", _INVISIBLE.sub("", text)))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = text.replace("i\u0307", "i").translate(_SAME)
    # `regex` may know digits of a later Unicode than Python: those stay as they are.
    text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0], digit[0])), text)
    return " ".join(unicodedata.normalize("NFKC", text).split())


@lru_cache(maxsize=1 << 12)
def normalise(text: str) -> str:
    """The folded text without what `TRIMMED` names: equal results are the same answer.

    Signs and symbols stay.
    """
    text, before = fold(text), ""
    while text != before:
        before = text
        text = _END.sub("", text).strip()
        for wrapper in _WRAPPERS:
            if wrapped := wrapper.fullmatch(text):
                text = wrapped["inner"].strip()
    return text
