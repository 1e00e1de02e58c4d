"""Counts a prompt's tokens with the model's own tokenizer and chat template, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.files.json_object import object_if_there
from foundation.http.endpoint import Api
from foundation.models.template_file import (
    read_settings,
    read_template,
    render_chat,
    special_tokens,
)

TextMessage = dict[str, str]
"""A message of `role` and `content` alone."""
FILE = "tokenizer.json"
_FILES = (
    FILE,
    "tokenizer.model*",
    "vocab.*",
    "*.tiktoken",
    "tekken.json",
    "spiece.model",
    "sentencepiece*",
    "tokenization*.py",
)


class ModelTokenizer:
    """Counts tokens as vLLM does.

    A chat counts as its template renders it, a text completion with the tokenizer's special
    tokens. Raises BadInput without `tokenizer.json` or without the package that reads it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise BadInput(
                'counting tokens needs the package tokenizers: pip install "tunedyno[tune]"'
            ) from None
        if not (file := folder / FILE).is_file():
            raise BadInput(f"{folder}: no tokenizer.json; name a model folder that has one")
        self.folder = folder
        self._tokens = Tokenizer.from_file(str(file))
        self._special = special_tokens(read_settings(folder))
        self._template = read_template(folder)

    def vocabulary(self) -> list[str]:
        """All tokens by id, with spaces in place of BPE's Ġ and SentencePiece's ▁."""
        vocabulary = self._tokens.get_vocab(with_added_tokens=False)
        return [
            token.replace("Ġ", " ").replace("▁", " ")
            for token in sorted(vocabulary, key=vocabulary.__getitem__)
        ]

    def counts(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text alone."""
        return [
            len(each.ids)
            for each in self._tokens.encode_batch(list(texts), add_special_tokens=False)
        ]

    def prompt_counts(self, prompts: Sequence[Sequence[TextMessage]], api: Api) -> list[int]:
        """The number of input tokens of each prompt at this API."""
        return [len(ids) for ids in self._ids(prompts, api)]

    def common_prefix(
        self, one: Sequence[TextMessage], other: Sequence[TextMessage], api: Api
    ) -> int:
        """The number of tokens in the common beginning of two prompts."""
        ids = self._ids([one, other], api)
        return next(
            (place for place, (a, b) in enumerate(zip(*ids, strict=False)) if a != b),
            min(map(len, ids)),
        )

    def _ids(self, prompts: Sequence[Sequence[TextMessage]], api: Api) -> list[list[int]]:
        chat = api == "chat"
        texts = [
            self._render(messages) if chat else completion_text(messages) for messages in prompts
        ]
        return [each.ids for each in self._tokens.encode_batch(texts, add_special_tokens=not chat)]

    def _render(self, messages: Sequence[TextMessage]) -> str:
        if self._template is None:
            raise BadInput(
                f"{self.folder}: the tokenizer has no chat template; "
                "write workload.api: completions"
            )
        return render_chat(self._template, messages, self._special)


def completion_text(messages: Sequence[TextMessage]) -> str:
    """Messages as the one text of a text completion."""
    return "\n\n".join(message["content"] for message in messages)


def has_tokenizer(folder: Path) -> bool:
    """Whether a model folder holds a tokenizer's files, of any kind."""
    return any(any(folder.glob(name)) for name in _FILES)


def new_tokens(folder: Path, base: Path) -> dict[str, int]:
    """Tokens, with their ids, that the tokenizer in `folder` adds to its base's.

    Empty if one folder has no `tokenizer.json`. Raises BadInput if one is broken.
    """
    ours, theirs = object_if_there(folder / FILE), object_if_there(base / FILE)
    if not ours or not theirs:
        return {}
    vocabulary = theirs.get("model", {}).get("vocab", {})
    known = set(vocabulary if isinstance(vocabulary, dict) else (entry[0] for entry in vocabulary))
    known |= set(_added(theirs))
    return {token: number for token, number in _added(ours).items() if token not in known}


def _added(tokenizer: dict[str, Any]) -> dict[str, int]:
    return {
        str(token["content"]): int(token["id"]) for token in tokenizer.get("added_tokens") or ()
    }
