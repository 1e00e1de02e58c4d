"""Prunes the block of layers that changes the hidden state least; training then heals the model.

After A. Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers, 2024. Of all blocks
of n layers, the one whose input and output are nearest in angle is dropped; the angle is a mean
over the last tokens of examples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.data import prepare
from finetune.job import TrainingJob
from finetune.tokens import ExampleTokens
from foundation.errors import BadInput, SystemFailed
from foundation.files.atomic_write import write_whole
from foundation.models.companions import copy_companions
from foundation.models.loading import load_causal_lm, names_left_out
from foundation.models.model import ModelRef
from foundation.models.tensors import Tensors
from foundation.progress import Progress
from foundation.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    import torch

_EXAMPLES = 128
_NUMBER = re.compile(r"[.](\d+)[.]")
"""The number of a layer in a tensor's name."""


def prune(job: TrainingJob, share: float, out: Path, progress: Progress) -> ModelRef:
    """Write the job's base without `share` of its layers to `out`.

    `prune.json` there holds every block's distance, measured on 128 training prompts, and which
    block was dropped. Raises BadInput where the share is no layer or all of them.
    """
    quiet_libraries()
    base = job.base
    model = load_causal_lm(base.path, dtype="auto").eval()
    layers = model.config.num_hidden_layers
    count = layers_to_drop(layers, share)
    config = job.config.model_copy(update={"limit": _EXAMPLES})
    data = prepare(replace(job, config=config, heldout=()))
    states = last_token_states(model, data.train, progress)
    distances = angular_distances(states, count)
    first = int(distances.argmin())
    _drop(model, first, count)
    model.save_pretrained(out)
    copy_companions(base.path, out)
    check_pruned(base, first, count, out)
    _write_record(out, base, range(first, first + count), layers - count, distances, len(states))
    progress.log(
        f"prune: layers {first + 1} to {first + count} of {layers} left out (angular distance "
        f"{distances[first]:.3f}; the block that changes most has {distances.max():.3f})"
    )
    return ModelRef(f"{base.id}-pruned", base.revision, out)


def _write_record(
    out: Path, base: ModelRef, dropped: range, layers: int, distances: torch.Tensor, examples: int
) -> None:
    import torch

    record = {
        "schema_version": 1,
        "base": {"id": base.id, "revision": base.revision, "fingerprint": base.fingerprint()},
        "dropped": list(dropped),
        "layers": layers,
        "examples": examples,
        "angular_distances": [round(float(d), 5) for d in distances],
        "torch": torch.__version__,
    }
    write_whole(out / "prune.json", json.dumps(record, indent=2) + "\n")


def layers_to_drop(layers: int, share: float) -> int:
    """How many layers a share is, rounded. Raises BadInput where it is none, or all of them."""
    count = round(layers * share)
    if not 0 < count < layers:
        raise BadInput(
            f"prune: {share:.0%} of {layers} layers is {count}; "
            "write a share that leaves some out and keeps some"
        )
    return count


def last_token_states(
    model: Any, examples: Sequence[ExampleTokens], progress: Progress
) -> torch.Tensor:
    """The state of each prompt's last token before every layer, and behind the last one.

    Shape (examples, layers + 1, width).
    """
    import torch

    states: list[torch.Tensor] = []
    # Taken at the layers: the model's own last state has been through the final norm.
    hooks = _record_states(_layers(model), states)
    progress.stage("prune", len(examples), "prompts")
    rows = []
    with torch.no_grad():
        for tokens in examples:
            model.base_model(input_ids=torch.tensor([tokens.prompt]), use_cache=False)
            rows.append(torch.stack(states))
            states.clear()
            progress.advance(1)
    for hook in hooks:
        hook.remove()
    return torch.stack(rows)


def _record_states(layers: Any, states: list[torch.Tensor]) -> list[Any]:
    """Append the last token's state to `states` before each layer, and behind the last one."""

    def before(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        states.append(inputs[0][0, -1].float())

    def behind(_: Any, __: Any, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        states.append(hidden[0, -1].float())

    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    return [*hooks, layers[-1].register_forward_hook(behind)]


def angular_distances(states: torch.Tensor, count: int) -> torch.Tensor:
    """The mean angle between input and output of each block of `count` layers, over pi."""
    import torch

    cosine = torch.nn.functional.cosine_similarity(
        states[:, :-count], states[:, count:], dim=-1
    ).clamp(-1, 1)
    return (cosine.arccos() / torch.pi).mean(dim=0)


def _drop(model: Any, first: int, count: int) -> None:
    import torch

    kept = [layer for i, layer in enumerate(_layers(model)) if not first <= i < first + count]
    for index, layer in enumerate(kept):
        layer.self_attn.layer_idx = index
    model.base_model.layers = torch.nn.ModuleList(kept)
    model.config.num_hidden_layers = len(kept)
    if (types := getattr(model.config, "layer_types", None)) is not None:
        model.config.layer_types = [
            t for i, t in enumerate(types) if not first <= i < first + count
        ]


def check_pruned(base: ModelRef, first: int, count: int, out: Path) -> None:
    """Raises SystemFailed where the files are not the base's tensors without the dropped layers."""
    import torch

    before, after = Tensors(base.shards()), Tensors(ModelRef(base.id, None, out).shards())

    def moved(at: re.Match[str]) -> str:
        number = int(at[1])
        return f".{number + count if number >= first else number}."

    sources = {name: _NUMBER.sub(moved, name, count=1) for name in after.names}
    for name, source in sources.items():
        written, original = after[name], before.get(source)
        if original is None or not torch.equal(written, original.to(written.dtype)):
            raise SystemFailed(f"{out}: {name} was written, and is not {source} of {base.id}")
    dropped = {
        name
        for name in before.names
        if (at := _NUMBER.search(name)) and first <= int(at[1]) < first + count
    }
    tied = {"lm_head.weight"} if base.config().get("tie_word_embeddings") else set()
    if lost := sorted(set(before.names) - set(sources.values()) - dropped - tied):
        passed_over = names_left_out(base.path)
        if unread := [name for name in lost if not passed_over(name)]:
            raise SystemFailed(f"{out}: {unread[0]} of {base.id} was not written")


def _layers(model: Any) -> Any:
    layers = getattr(model.base_model, "layers", None)
    if layers is None:
        raise BadInput(
            f"prune: {type(model).__name__} keeps its layers elsewhere than in .layers; "
            "its kind can't be pruned"
        )
    return layers
