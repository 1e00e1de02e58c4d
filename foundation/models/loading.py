"""Loads models and adapters whole or not at all: a library's warning is an error here."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foundation.errors import BadInput
from foundation.models.model import ModelRef

_DOES_NOT_FIT = "hold {}, which does not fit its config.json"
ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = "adapter_*"


def load_causal_lm(folder: Path, **options: Any) -> Any:
    """The causal language model in a folder, without an adapter that lies beside it.

    `options` go to transformers. Raises BadInput for a weight that is missing, left over, or of
    another shape than the config's: transformers would put random weights in its place.
    """
    from transformers import AutoModelForCausalLM

    if "quantization_config" in options:
        _check_shapes(folder, bool(options.get("trust_remote_code")))
    with without_adapter(folder) as clean:
        model, report = AutoModelForCausalLM.from_pretrained(
            clean,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    kind = type(model).__name__
    mismatched = [_mismatch(*each) for each in report["mismatched_keys"]]
    _refuse(folder, report["missing_keys"], f"lack {{}}, which {kind} needs")
    _refuse(folder, report["unexpected_keys"], f"hold {{}}, which {kind} has no place for")
    _refuse(folder, mismatched, _DOES_NOT_FIT)
    return model


def load_adapter(model: Any, adapter: Path) -> Any:
    """`model` with a PEFT adapter on it, in evaluation mode.

    Raises BadInput if the adapter lacks a weight of its config: PEFT would leave it untrained.
    """
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(adapter)
    config.inference_mode = True
    wrapped = PeftModel(model, config)
    names = getattr(model, "_checkpoint_conversion_mapping", {})
    if missing := wrapped.load_adapter(adapter, "default", key_mapping=names).missing_keys:
        raise BadInput(
            f"{adapter}: {ADAPTER_CONFIG} asks for {listed(missing)}, which the weights lack; "
            "save the adapter again"
        )
    return wrapped.eval()


def names_left_out(folder: Path) -> Callable[[str], bool]:
    """A test for names of weights that the model's class ignores: masks, old buffers."""
    model = _without_weights(folder)
    ignored = [
        *(model._keys_to_ignore_on_load_unexpected or ()),
        r"rotary_emb\.inv_freq",
        r"(^|\.)position_ids$",
    ]
    return lambda name: any(re.search(pattern, name) for pattern in ignored)


def _check_shapes(folder: Path, trust_remote_code: bool) -> None:
    """Raises BadInput for a weight of another shape than the config's.

    transformers itself compares no shapes while it quantizes.
    """
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in _without_weights(folder, trust_remote_code).state_dict().items()
    }
    for name, shape in ModelRef(folder.name, None, folder).shapes().items():
        if shape != expected.get(name, shape):
            _refuse(folder, [_mismatch(name, shape, expected[name])], _DOES_NOT_FIT)


def _mismatch(name: str, stored: Iterable[int], expected: Iterable[int]) -> str:
    return f"{name} {tuple(stored)} (not {tuple(expected)})"


def _refuse(folder: Path, names: Collection[str], fault: str) -> None:
    if names:
        raise BadInput(
            f"{folder}: its weight files {fault.format(listed(names))}; "
            "download the model, or save it, again"
        )


def _without_weights(folder: Path, trust_remote_code: bool = False) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def listed(names: Iterable[str]) -> str:
    """The first name in order, and how many more there are."""
    first, *more = sorted(names)
    return f"{first} and {len(more)} more" if more else first


@contextmanager
def without_adapter(folder: Path) -> Iterator[Path]:
    """The folder, or a view of it without an adapter's files.

    transformers would load the adapter too, or instead.
    """
    if not (folder / ADAPTER_CONFIG).exists():
        yield folder
        return
    with tempfile.TemporaryDirectory() as view:
        for file in folder.iterdir():
            if not file.match(_ADAPTER_FILES):
                (Path(view) / file.name).symlink_to(file.absolute())
        yield Path(view)
