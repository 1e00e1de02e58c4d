"""Takes secrets out of texts: verbatim, in the encodings of servers and tools, and cut off.

A server repeats a wrong key in its error, percent-encoded in a redirect, in base64 in a header.
An excerpt may end in the middle of a secret. A reference such as `${PROD_KEY}` replaces it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache

SHORTEST = 4
"""A shorter secret occurs in texts by chance."""
_BEGINNING = 8
"""So many first characters of a secret do not occur by chance."""
_SAFE = re.compile("[0-9A-Za-z]+")
_ENTITIES = {'"': "quot", "&": "amp", "<": "lt", ">": "gt", "'": "apos"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"[^\W\d_]{1,11}|\d+")
_KEY = re.compile(
    r"(?:[spr]k[-_]|gsk_|hf_|gh[oprsu]_|github_pat_|glpat-|xox[abprs]-|nvapi-|pplx-|r8_"
    r"|A[KS]IA|AIza|eyJ)[-\w.]{8,}"
)
_KEY_WITHIN = re.compile(rf"(?<![0-9A-Za-z]){_KEY.pattern}")
_KEY_NAME = re.compile(
    r"(?:^|[-_.])(?:(?<!cache[-_.])key|apikey|token|secret|password|passwd|auth|authorization"
    r"|credentials?)$",
    re.IGNORECASE,
)


def looks_like_key(text: str) -> bool:
    """Whether a text begins as the API keys of well-known services do."""
    return _KEY.match(text) is not None


def check_variable(name: str) -> str:
    """The name of an environment variable, unchanged.

    Raises ValueError for a text that is no such name, or an API key; the error does not repeat it.
    """
    if not _VARIABLE.fullmatch(name) or looks_like_key(name):
        raise ValueError(
            "write the name of the variable that holds the key, such as PROD_KEY, "
            "and not the key itself"
        )
    return name


def names_a_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: `api_key`, `token`, but not `max_tokens`."""
    return _KEY_NAME.search(name) is not None


def hide_keys(text: str) -> str:
    """The text without anything that looks like a key, and without logins in addresses."""
    return re.sub(r"(?<=://)[^\s/?#]*@", "***@", _KEY_WITHIN.sub("***", text))


class Mask:
    """Replaces secrets in a text. `secrets` maps each to its replacement.

    `whole=True` is for models' answers, which must not change by accident. It skips secrets that a
    model may generate by itself (a word, a number). It replaces beginnings from half a secret on.
    """

    def __init__(self, secrets: Mapping[str, str], whole: bool = False) -> None:
        hidden = [s for s in secrets if len(s) >= SHORTEST and not (whole and _WORD.fullmatch(s))]
        patterns = [
            _Pattern(
                text,
                secrets[secret],
                _least(secret, text, whole),
            )
            for secret in hidden
            for text in {secret, secret.encode().hex(), *_in_base64(secret.encode())}
        ]
        self._longest_first = sorted(patterns, key=lambda pattern: -pattern.length)

    def __call__(self, text: str) -> str:
        """The text with each secret replaced."""
        for pattern in self._longest_first:
            if pattern.clue in text:
                text = pattern.replaced(text)
        return text


def _least(secret: str, text: str, whole: bool) -> int:
    """How many first characters of a text are replaced at least; an address only as a whole."""
    if "://" in secret:
        return len(text)
    return len(text) // 2 if whole else 0


class _Pattern:
    """One text in any encoding of its characters, from its first `least` or 8 characters on."""

    def __init__(self, text: str, replacement: str, least: int) -> None:
        first = max(_BEGINNING, least)
        self.length = len(text)
        # A part of the beginning that every encoding keeps: faster to find than a pattern.
        self.clue = max(_SAFE.findall(text[:first]), key=len, default="")
        self._replacement = replacement
        self._beginning = re.compile("".join(map(_written, text[:first])))
        self._rest = [re.compile(_written(letter)) for letter in text[first:]]

    def replaced(self, text: str) -> str:
        """The text with the replacement for each occurrence."""
        kept, at = "", 0
        while beginning := self._beginning.search(text, at):
            kept += text[at : beginning.start()] + self._replacement
            at = beginning.end()
            for letter in self._rest:
                if (step := letter.match(text, at)) is None:
                    break
                at = step.end()
        return kept + text[at:]


@cache
def _written(letter: str) -> str:
    """A pattern of a character's forms: as it is, percent-encoded, escaped, as an entity."""
    percent = "".join(f"%(?:25)*{byte:02x}" for byte in letter.encode("utf-8", "surrogatepass"))
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    escaped = "".join(rf"\\+u{units[at : at + 4]}" for at in range(0, len(units), 4))
    named = _ENTITIES.get(letter, "none")
    entity = f"&(?:amp;)*(?:#0*{ord(letter)}|#x0*{ord(letter):x}|{named});"
    plain = {"\\": r"\\+", " ": r"[ +]"}.get(letter, rf"\\*{re.escape(letter)}")
    return f"(?:(?i:{percent}|{escaped}|{entity})|{plain})"


def _in_base64(secret: bytes) -> Iterator[str]:
    """The secret in base64 at its three possible offsets, without the characters it shares."""
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            if last - first >= _BEGINNING:
                yield encode(bytes(before) + secret).decode()[first:last]


_known: dict[str, str] = {}


def remember(secrets: Mapping[str, str]) -> None:
    """Have `masked` replace these secrets from now on."""
    if secrets.items() - _known.items():
        _known.update(secrets)
        _mask_of_known.cache_clear()


def remember_environment() -> None:
    """Have `masked` replace the keys, tokens and passwords of the environment, by their names."""
    references = {
        value: f"${{{name}}}" for name, value in os.environ.items() if names_a_secret(name)
    }
    remember({value: name for value, name in references.items() if len(value) >= _BEGINNING})


def masked(text: str) -> str:
    """The text without any secret that this process knows, for errors from anywhere."""
    return _mask_of_known()(text)


@cache
def _mask_of_known() -> Mask:
    return Mask(_known)
