"""Models and adapters, loaded whole or not at all: what a library only warns about is an error here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foundation.errors import BadInput

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = "adapter_*"


def load_causal_lm(folder: Path, **options: Any) -> Any:
    """The causal language model in a folder, as a server reads it: its own weights, and no adapter that lies beside them.

    `options` go to transformers. Raises BadInput where a weight is missing, left over, or of another shape than the config
    says: transformers would begin with random weights in its place.
    """
    from transformers import AutoModelForCausalLM

    with _without_adapter(folder) as clean:
        model, report = AutoModelForCausalLM.from_pretrained(
            clean, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    kind = type(model).__name__
    mismatched = {f"{name} {tuple(stored)} (not {tuple(wanted)})" for name, stored, wanted in report["mismatched_keys"]}
    for names, fault in (
        (report["missing_keys"], f"its weight files lack {{}}, which {kind} needs"),
        (report["unexpected_keys"], f"its weight files hold {{}}, which {kind} has no place for"),
        (mismatched, f"its weight files hold {{}}, which does not fit its config.json ({kind})"),
    ):
        if names:
            raise BadInput(f"{folder}: {fault.format(listed(names))}; nothing of it is used, download or save the model again")
    return model


def load_adapter(model: Any, adapter: Path) -> Any:
    """`model` with a PEFT adapter on it, in evaluation mode.

    Raises BadInput where the adapter lacks a weight that its config asks for: PEFT would leave it untrained.
    """
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(adapter)
    config.inference_mode = True
    wrapped = PeftModel(model, config)
    names = getattr(model, "_checkpoint_conversion_mapping", {})
    if missing := wrapped.load_adapter(adapter, "default", key_mapping=names).missing_keys:
        raise BadInput(f"{adapter}: {ADAPTER_CONFIG} asks for {listed(missing)}, which the weights lack; save the adapter again")
    return wrapped.eval()


def listed(names: Iterable[str]) -> str:
    """The first name, and how many more there are."""
    first, *more = sorted(names)
    return f"{first} and {len(more)} more" if more else first


@contextmanager
def _without_adapter(folder: Path) -> Iterator[Path]:
    """The folder, or a view of it without an adapter's files: transformers would load the adapter too, or instead."""
    if not (folder / ADAPTER_CONFIG).exists():
        yield folder
        return
    with tempfile.TemporaryDirectory() as view:
        for file in folder.iterdir():
            if not file.match(_ADAPTER_FILES):
                (Path(view) / file.name).symlink_to(file.absolute())
        yield Path(view)
