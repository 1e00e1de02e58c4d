"""Whole tokens of folded text, in any script: where one stands, and the words of a text."""

from __future__ import annotations

import regex

_IN_WORDS = r"\p{L}\p{M}\p{N}_"
WORD = f"[{_IN_WORDS}]"
_LETTER = r"[\p{L}\p{M}]"
_SPACELESS = r"[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_KATAKANA = r"[\p{Katakana}ー]"
_HANGUL = r"\p{Hangul}"

# Between two word characters: scripts without spaces may be cut anywhere, katakana where another
# script begins, and Hangul where a particle follows the word.
_CUTS = (
    rf"(?<={_SPACELESS})|(?={_SPACELESS})"
    rf"|(?<={_KATAKANA})(?!{_KATAKANA})|(?<!{_KATAKANA})(?={_KATAKANA})"
)
WITHIN_WORD = rf"(?:(?=\p{{M}})|(?<={WORD})(?={WORD})(?!{_CUTS}))"
_WITHIN_NUMBER = r"(?<=\d)(?=[.,:/]\d)|(?<=\d[.,:/])(?=\d)"
_JOINED = rf"(?<={WORD})(?=[-&@^]{WORD})(?!(?<=\d)-\d)|(?<={WORD}[-&@^])(?={WORD})(?!(?<=\d-)\d)"
_SHORT = (  # n/a, w/o
    rf"(?<=(?<!{WORD})\p{{L}})(?=/\p{{L}}(?!{WORD}))"
    rf"|(?<=(?<!{WORD})\p{{L}}/)(?=\p{{L}}(?!{WORD}))"
)
_WITHIN = rf"{WITHIN_WORD}|{_WITHIN_NUMBER}|{_JOINED}|{_SHORT}"

# A token does not start behind a sign of a number, a currency sign or the dot of ".net". It starts
# at no sign that stands behind another token: "3-5" holds no -5.
_NO_START = regex.compile(
    rf"{_WITHIN}"
    rf"|(?<=(?<![{_IN_WORDS})\].])[-+.])(?=[\d.\p{{Sc}}])|(?<=\p{{Sc}}[-+]?)(?=[-+.\d])|(?<=(?<![{_IN_WORDS}.])\.)(?=\p{{L}})"
    rf"|(?<=[{_IN_WORDS})\]])(?=[-+.]\d)"
)
# A token does not end before a sign that belongs to it (5%, 5€, c++, c#, a-), nor before what an
# apostrophe joins, other than 's.
_NO_END = regex.compile(
    rf"(?!(?<={_HANGUL})(?={_HANGUL}))(?:{_WITHIN})"
    rf"|(?<=\d)(?=[%‰°\p{{Sc}}])|(?<={WORD})(?=[+#](?!\d)|\+\+)|(?<=[+#])(?=[+#])|(?<={_LETTER})(?=-(?![-\p{{Pd}}{_IN_WORDS}]))"
    rf"|(?<={_LETTER})(?='\p{{L}}(?!(?<='s)(?!{WORD})))"
)
_WORDS = regex.compile(
    rf"{_SPACELESS}\p{{M}}*|{_KATAKANA}+|(?:(?!{_SPACELESS}|{_KATAKANA})[\p{{L}}\p{{M}}\p{{N}}])+"
)
_TERMS = regex.compile(
    rf"(?:(?<![{_IN_WORDS})\]])[-+])?\d+(?:[.,]\d+)*(?!{WORD})%?|(?:{_WORDS.pattern})(?:[+#]+(?!\d))?"
)  # fmt: skip

STATED = (
    "as whole tokens of any script: a sign, decimals, %, currency and signs such as + or # belong "
    "to the token beside them, and a hyphen joins words"
)


def find(token: str, text: str) -> int | None:
    """The index of the first whole `token` in `text`, both folded, or None.

    An empty token is nowhere.
    """
    at = text.find(token) if token else -1
    while at >= 0:
        if not _NO_START.match(text, at) and not _NO_END.match(text, at + len(token)):
            return at
        at = text.find(token, at + 1)
    return None


def words(text: str) -> list[str]:
    """Runs of letters and digits in folded text; in scripts without spaces each character."""
    return _WORDS.findall(text)


def terms(text: str) -> list[str]:
    """Words. A number keeps its sign, decimals and %, a word the + or # behind it (c++)."""
    return _TERMS.findall(text)
