"""A model's own tokenizer and chat template, read from its folder without torch: how many tokens a prompt is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from foundation.errors import BadInput

Api = Literal["chat", "completions"]
Message = dict[str, str]
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


class ModelTokenizer:
    """Counts as vLLM does: a chat as its template words it, a text completion with the tokenizer's special tokens.

    Raises BadInput where the folder has no `tokenizer.json`, or the libraries that read it are not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise BadInput('counting tokens needs the package tokenizers: pip install "tunedyno[tune]"') from None
        if not (file := folder / "tokenizer.json").is_file():
            raise BadInput(f"{folder}: no tokenizer.json; name a model folder that has one")
        self.folder = folder
        self._tokens = Tokenizer.from_file(str(file))
        self._settings = _json(folder / "tokenizer_config.json")
        self._template = _template(folder, self._settings)

    def vocabulary(self) -> list[str]:
        """Every token in the order of their ids, with a space where byte-level BPE writes Ġ and SentencePiece ▁."""
        vocabulary = self._tokens.get_vocab(with_added_tokens=False)
        return [token.replace("Ġ", " ").replace("▁", " ") for token in sorted(vocabulary, key=vocabulary.__getitem__)]

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text alone."""
        return [len(each.ids) for each in self._tokens.encode_batch(list(texts), add_special_tokens=False)]

    def prompt_counts(self, prompts: Sequence[Sequence[Message]], api: Api) -> list[int]:
        """Input tokens of each prompt, as the API makes one text of its messages."""
        return [len(ids) for ids in self._ids(prompts, api)]

    def common_prefix(self, one: Sequence[Message], other: Sequence[Message], api: Api) -> int:
        """How many tokens two prompts begin with alike."""
        ids = self._ids([one, other], api)
        return next((place for place, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))

    def _ids(self, prompts: Sequence[Sequence[Message]], api: Api) -> list[list[int]]:
        chat = api == "chat"
        texts = [self._render(messages) if chat else completion_text(messages) for messages in prompts]
        return [each.ids for each in self._tokens.encode_batch(texts, add_special_tokens=not chat)]

    def _render(self, messages: Sequence[Message]) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        if self._template is None:
            raise BadInput(f"{self.folder}: the tokenizer has no chat template; write workload.api: completions")
        named = {name: _content(self._settings[name]) for name in _SPECIAL if self._settings.get(name)}
        rendered, _ = render_jinja_template([list(messages)], chat_template=self._template, add_generation_prompt=True, **named)
        return str(rendered[0])


def completion_text(messages: Sequence[Message]) -> str:
    """The one text that a text completion makes of messages."""
    return "\n\n".join(message["content"] for message in messages)


def _template(folder: Path, settings: dict[str, Any]) -> str | None:
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((each["template"] for each in found if each.get("name") == "default"), None)
    return found


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{file}: not JSON ({error})") from None
    return read if isinstance(read, dict) else {}
