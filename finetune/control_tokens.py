"""Control tokens inside data: a text that holds one can end a turn, or open another's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from foundation.data.examples import Example

_ZERO = "\0"


def with_control_tokens(examples: Sequence[Example], tokenizer: Any) -> list[tuple[str, str]]:
    """File and line of each example whose texts hold a special token, and the first such token.

    U+0000 counts too: no tokenizer takes it for control, but no person writes it.
    """
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    names = sorted({*added, *tokenizer.all_special_tokens, _ZERO}, key=len, reverse=True)
    any_of = re.compile("|".join(re.escape(name) for name in names))
    matches = ((example.where, any_of.search(_texts(example))) for example in examples)
    return [(where, match.group().replace(_ZERO, "U+0000")) for where, match in matches if match]


def _texts(example: Example) -> str:
    return "\n".join(
        [*(str(message["content"]) for message in example.messages), example.completion]
    )
