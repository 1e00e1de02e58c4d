"""Makes foreign text safe to print: it can't control a terminal or a CI, and hides nothing.

Text from servers, data files and file names passes through here before it is printed.
"""

from __future__ import annotations

import re

# Control sequences whole, so that "\x1b[31mno\x1b[0m" reads "no": CSI, then strings (titles,
# links) that end on their line, then all others. ECMA-48, sections 5.4 to 5.6.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\`-~]"
)
# Invisible characters: soft hyphens, joiners, tags, byte order marks.
_NOTHING = re.compile("[\xad\u180e\u200b-\u200d\u2060-\u2064\ufeff\U000e0000-\U000e007f]")
# Control characters but line feed and tab, bidirectional marks, line separators, surrogates.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2065-\u206f\ufff9-\ufffb\ud800-\udfff]"
)
# Log commands of GitHub, Azure and TeamCity: "::set-output", "##[group]", "##vso[".
_HASHES = r"#(?=#(?:\[|vso\[|teamcity\[))"
_ORDER = re.compile(rf"^[^\S\n]*:(?=:)|{_HASHES}", re.MULTILINE)
_NOT_IN_JSON = re.compile(f"{_NOTHING.pattern}|{_STEERING.pattern}|{_HASHES}")


def visible(text: str) -> str:
    """The text without control sequences and invisible characters.

    Other control characters become U+FFFD; line feeds and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    plain = _NOTHING.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", plain)


def printable(text: str) -> str:
    """`visible`, without commands to a CI: "::" becomes ": :"."""
    return _ORDER.sub(r"\g<0> ", visible(text))


def json_printable(text: str) -> str:
    """The JSON document with everything escaped that a terminal or a CI would obey."""
    return _NOT_IN_JSON.sub(_escaped, text)


def _escaped(letter: re.Match[str]) -> str:
    """A character as JSON escapes it: by its UTF-16 code units."""
    units = letter[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
