"""Reads the externals of an experiment: hashes of models, adapters and data, versions, hardware."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from dyno.artifacts.externals import Externals, Files
from dyno.experiment.endpoints import endpoint_of
from dyno.experiment.schema import Experiment
from dyno.pipeline.environment import hardware, versions
from foundation.data.examples import Example
from foundation.files.content_hash import file_sha256, folder_contents, identity_of
from foundation.http.endpoint import Endpoint
from foundation.models.model import ModelRef
from foundation.path_fields import path_exists
from serve.vllm.speculation import draft_model

# The hardware that times depend on. Another kernel or more free memory is no other machine.
_MACHINE = ("cpu", "cores", "instruction_sets", "accelerators")
# The files of a model folder that decide how text becomes tokens.
_TOKENIZER = ("tokenizer", "chat_template", "vocab", "merges", "special_tokens", "added_tokens")
_row_encoder = msgspec.json.Encoder(order="deterministic")


def read_externals(
    experiment: Experiment,
    models: Mapping[str, ModelRef],
    adapters: Mapping[str, Path],
    data: Mapping[str, Sequence[Example]],
    tokenizer: Path | None,
) -> Externals:
    """The externals of an experiment on this machine.

    `models` and `adapters`: by their names in the experiment. `data`: "train" and "eval".
    `tokenizer`: the model folder that counts tokens. A model that is not on this machine has no
    contents.
    """
    workload = experiment.workload
    hashes = {name: examples_sha256(examples) for name, examples in data.items() if examples}
    if (dataset := workload.dataset) is not None and (source := dataset.trace or dataset.sharegpt):
        hashes["dataset"] = file_sha256(source.file)
    machine: dict[str, object] = {**hardware()}
    return Externals(
        models={
            name: folder_contents(model.path)
            for name, model in models.items()
            if model.path.is_dir()
        },
        adapters={name: folder_contents(folder) for name, folder in adapters.items()},
        data=hashes,
        files={str(path): _sha256(path) for path in _paths_in(experiment) if path.exists()},
        addresses={
            v.name: _addresses_sha256(endpoint_of(v, workload.api))
            for v in experiment.variants
            if v.url
        },
        tokenizer=_tokenizer_files(tokenizer) if tokenizer else {},
        versions=versions(),
        machine={name: machine[name] for name in _MACHINE},
    )


def examples_sha256(examples: Iterable[Example]) -> str:
    """A hash of the examples' contents, regardless of their files and lines."""
    digest = hashlib.sha256()
    for example in examples:
        # Weights are keyed by index, and the encoder sorts only text keys.
        row = msgspec.to_builtins(
            replace(example, file=Path(), line=0), str_keys=True, enc_hook=str
        )
        digest.update(_row_encoder.encode(row) + b"\n")
    return digest.hexdigest()


def _paths_in(experiment: Experiment) -> list[Path]:
    """The files and folders that stages, vLLM's options and the section finetune name."""
    engines = [experiment.serve_of(variant).options for variant in experiment.variants]
    options = [
        Path(value) for engine in engines for value in engine.values() if isinstance(value, str)
    ]
    trainings = [experiment.finetune_of(each) for each in (None, *experiment.variants)]
    drafts = [Path(draft) for engine in engines if (draft := draft_model(engine))]
    return [
        *(stage.trace.file for stage in experiment.workload.stages if stage.trace),
        *(path for path in options if path_exists(path) and path.is_file()),
        *(path for path in drafts if path_exists(path) and path.is_dir()),
        *(path for config in trainings if config for path in config.files.values()),
    ]


def _sha256(path: Path) -> str:
    return identity_of(folder_contents(path)) if path.is_dir() else file_sha256(path)


def _addresses_sha256(endpoint: Endpoint) -> str:
    addresses = " ".join(replica.base_url for replica in endpoint.replicas)
    return hashlib.sha256(addresses.encode()).hexdigest()


def _tokenizer_files(folder: Path) -> Files:
    return {
        name: digest
        for name, digest in folder_contents(folder).items()
        if name.startswith(_TOKENIZER)
    }
