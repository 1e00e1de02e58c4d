"""What an experiment rests on, looked at: contents of models, adapters and data, versions, the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from dyno.artifacts.graph import Files, Outside
from dyno.experiment.endpoints import endpoint_of
from dyno.experiment.schema import Experiment
from dyno.pipeline.environment import hardware, versions
from foundation.data.examples import Example
from foundation.files.content_hash import file_sha256, folder_contents, identity_of
from foundation.models.model import ModelRef
from foundation.path_fields import path_exists

# Of the hardware, what times depend on. Another kernel or more free memory is no other machine.
_MACHINE = ("cpu", "cores", "instruction_sets", "accelerators")
# The files of a model folder that decide how text becomes tokens.
_TOKENIZER = ("tokenizer", "chat_template", "vocab", "merges", "special_tokens", "added_tokens")
_rows = msgspec.json.Encoder(order="deterministic")


def look(
    experiment: Experiment,
    models: Mapping[str, ModelRef],
    adapters: Mapping[str, Path],
    data: Mapping[str, Sequence[Example]],
    tokenizer: Path | None,
) -> Outside:
    """Everything at hand. A model that is not on this machine has no contents, and is known by its name."""
    workload = experiment.workload
    hashes = {name: examples_sha256(examples) for name, examples in data.items() if examples}
    if (dataset := workload.dataset) is not None and (source := dataset.trace or dataset.sharegpt):
        hashes["dataset"] = file_sha256(source.file)
    named = [stage.trace.file for stage in workload.stages if stage.trace]
    options = [Path(value) for value in experiment.serve.engine.values() if isinstance(value, str)]
    named += [file for file in options if path_exists(file) and file.is_file()]
    named += experiment.finetune.files.values() if experiment.finetune else ()
    machine: dict[str, object] = {**hardware()}
    return Outside(
        models={
            name: folder_contents(model.path)
            for name, model in models.items()
            if model.path.is_dir()
        },
        adapters={name: folder_contents(folder) for name, folder in adapters.items()},
        data=hashes,
        files={str(place): _contents(place) for place in named if place.exists()},
        addresses={
            v.name: hashlib.sha256(endpoint_of(v, workload.api).base_url.encode()).hexdigest()
            for v in experiment.variants
            if v.url
        },
        tokenizer=_words(tokenizer) if tokenizer else {},
        versions=versions(),
        machine={name: machine[name] for name in _MACHINE},
    )


def examples_sha256(examples: Iterable[Example]) -> str:
    """Of what examples say, wherever they stand."""
    digest = hashlib.sha256()
    for example in examples:
        # Weights are kept by place, and only text keys have an order.
        row = msgspec.to_builtins(
            replace(example, file=Path(), line=0), str_keys=True, enc_hook=str
        )
        digest.update(_rows.encode(row) + b"\n")
    return digest.hexdigest()


def _contents(place: Path) -> str:
    return identity_of(folder_contents(place)) if place.is_dir() else file_sha256(place)


def _words(folder: Path) -> Files:
    return {
        name: digest
        for name, digest in folder_contents(folder).items()
        if name.startswith(_TOKENIZER)
    }
