"""Writes texts of an exact length in tokens, from words that are one token each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from foundation.http.endpoint import Api
from foundation.models.tokenizer import ModelTokenizer

_WORD = re.compile(r" [a-z]{2,10}")
_FEWEST_WORDS = 64
_MAX_ROUNDS = 8
# Used without a tokenizer: words that are one token in almost every vocabulary.
_COMMON = (
    " time year people way day man thing woman life child world school state family student"
    " group country problem hand part place case week company system program question work"
    " government number night point home water room mother area money story fact month lot right"
    " study book eye job word business issue side kind head house service friend father power"
    " hour game line end member law car city community name president team minute idea body back"
    " parent face others level office door health person art war history party result change"
    " morning reason research girl guy moment air teacher"
)


@dataclass(frozen=True)
class Draft:
    """A prompt to be written: `tokens` in all.

    It begins with words of the texts in `begins`, pairs of a text's name and how many of its words.
    The other words come from the text `own`. Names are whole numbers. The same name always means
    the same words.
    """

    tokens: int
    own: tuple[int, ...]
    begins: tuple[tuple[tuple[int, ...], int], ...] = ()


@dataclass(frozen=True)
class Correction:
    """The server's count of a prompt that we count as n tokens: `extra` + `scale` x n."""

    extra: float = 0.0
    scale: float = 1.0

    def own_count(self, tokens: int) -> int:
        """The length to write, in our count, for the server to count `tokens`."""
        return round((tokens - self.extra) / self.scale)


class Wording:
    """Writes drafts in the words of a tokenizer. `seed` draws the words.

    Without a tokenizer it uses common words and counts each as a token.
    """

    def __init__(
        self,
        tokenizer: ModelTokenizer | None,
        api: Api,
        seed: Sequence[int],
        correction: Correction | None = None,
    ) -> None:
        self._tokenizer, self._api, self._seed = tokenizer, api, list(seed)
        self._correction = correction or Correction()

    @cached_property
    def words(self) -> list[str]:
        """Texts that are one token each, also one after another.

        They are words with the space before them, or single letters.
        """
        if self._tokenizer is None:
            return re.findall(r" \w+", _COMMON)
        known = [text for text in self._tokenizer.vocabulary() if _WORD.fullmatch(text)]
        counts = zip(
            self._tokenizer.counts(known),
            self._tokenizer.counts([text.lstrip() for text in known]),
            strict=True,
        )
        alone = [word for word, count in zip(known, counts, strict=True) if count == (1, 1)]
        return alone if len(alone) >= _FEWEST_WORDS else list("abcdefghijklmnopqrstuvwxyz")

    @cached_property
    def around(self) -> int:
        """Tokens that the chat template or the tokenizer adds to a prompt of one message."""
        return self._count([self._prompt(self.words[0])])[0] - 1

    @cached_property
    def before(self) -> int:
        """Those of them before the message, which all prompts share."""
        one, other = (self._prompt(word) for word in self.words[:2])
        return (
            0 if self._tokenizer is None else self._tokenizer.common_prefix(one, other, self._api)
        )

    @cached_property
    def between(self) -> int:
        """Tokens that a further turn adds beside its words and those of the answer before it."""
        if self._tokenizer is None:
            return 0
        word = self.words[0]
        two_turns = [
            *self._prompt(word),
            {"role": "assistant", "content": word},
            *self._prompt(word),
        ]
        return self._count([two_turns])[0] - self.around - 3

    @property
    def shortest(self) -> int:
        """Tokens of the shortest prompt that differs from others."""
        return round(self._correction.extra + self._correction.scale * self.around) + 8

    def prompts(self, drafts: Sequence[Draft]) -> list[str]:
        """The message of each draft, its length checked with the tokenizer and corrected."""
        targets = [self._correction.own_count(draft.tokens) for draft in drafts]
        sizes = [max(1, tokens - self.around) for tokens in targets]
        texts = [self.write(draft, size) for draft, size in zip(drafts, sizes, strict=True)]
        pending = list(range(len(drafts)))
        for _ in range(_MAX_ROUNDS):
            counts = self._count([self._prompt(texts[i]) for i in pending])
            off = {
                i: targets[i] - count
                for i, count in zip(pending, counts, strict=True)
                if count != targets[i] and sizes[i] > 1
            }
            for i, missing in off.items():
                sizes[i] = max(1, sizes[i] + missing)
                texts[i] = self.write(drafts[i], sizes[i])
            pending = list(off)
            if not pending:
                break
        return texts

    def text(self, name: Sequence[int], words: int) -> str:
        """The first `words` words of the text with this name."""
        rng = np.random.default_rng([*self._seed, *name])
        return "".join(self.words[i] for i in rng.integers(0, len(self.words), words))

    def write(self, draft: Draft, size: int) -> str:
        """`size` words of a draft: those it begins with, then its own."""
        parts = []
        for name, words in draft.begins:
            parts.append(self.text(name, min(words, size)))
            size -= min(words, size)
        return "".join([*parts, self.text(draft.own, size)]).lstrip()

    def _prompt(self, text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text.lstrip()}]

    def _count(self, prompts: Sequence[list[dict[str, str]]]) -> list[int]:
        if self._tokenizer is None:
            return [len(messages[-1]["content"].split()) for messages in prompts]
        return self._tokenizer.prompt_counts(prompts, self._api)
