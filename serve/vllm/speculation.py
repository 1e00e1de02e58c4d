"""The draft model that the options of speculative decoding name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from foundation.errors import BadInput
from foundation.path_fields import path_exists

_WHOLE = "speculative-config"
_MODEL_OPTIONS = (f"{_WHOLE}.model", "spec-model")
_NO_MODELS = frozenset({"ngram", "[ngram]"})
"""Methods that vLLM takes in the place of a model's name."""


def draft_model(options: Mapping[str, str | int | float | bool]) -> str | None:
    """The folder or hub id of the draft model; None without one. `options`: names with dashes."""
    for name in _MODEL_OPTIONS:
        if isinstance(model := options.get(name), str):
            return None if model in _NO_MODELS else model
    within = _whole(options).get("model")
    return within if isinstance(within, str) and within not in _NO_MODELS else None


def check_draft_model(where: str, options: Mapping[str, str | int | float | bool]) -> None:
    """Raises BadInput for a folder in JSON that a server can't find from its own folder.

    `where`: the place of the options in the experiment.
    """
    model = _whole(options).get("model")
    if not isinstance(model, str) or Path(model).is_absolute() or model in _NO_MODELS:
        return
    if model.startswith((".", "~")) or path_exists(Path(model)):
        raise BadInput(
            f"{where}.{_WHOLE}: model: {model}: within JSON, a server looks for it in its own "
            f"folder; write its absolute path, or {_MODEL_OPTIONS[0]}: {model}"
        )


def _whole(options: Mapping[str, str | int | float | bool]) -> Mapping[str, object]:
    """The option's JSON object; empty without one. vLLM's parser judges other texts."""
    try:
        whole = json.loads(str(options.get(_WHOLE, "{}")))
    except (ValueError, RecursionError):
        return {}
    return whole if isinstance(whole, dict) else {}
