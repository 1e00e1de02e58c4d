"""The artifacts that are served: models, adapters and checkpoints, and the servers of variants.

Pure: contents of folders and data, versions and the machine come in as `Externals`.

    source model -> adapter -> merged -> quantized
                 -> pruned -> student adapter -> merged -> quantized
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dyno.artifacts.artifact import Artifact
from dyno.artifacts.externals import Externals
from dyno.artifacts.facts import (
    IRRELEVANT_TO_ADAPTERS,
    IRRELEVANT_TO_PRUNING,
    IRRELEVANT_TO_SERVERS,
    MEASURING,
    MERGING,
    QUANTIZING,
    SERVING,
    TRAINING,
    epoch_of,
    finetune_facts,
    merged_name,
    section_facts,
    version_facts,
)
from dyno.experiment.request import shown_url
from dyno.experiment.schema import Experiment
from dyno.experiment.variants import FINETUNE, VariantConfig, is_own
from finetune.config import FinetuneConfig
from results.config import Scoring
from serve.plan import is_same_server
from serve.vllm.speculation import draft_model


@dataclass(frozen=True)
class ServedArtifacts:
    """What the variants of an experiment are made of, and their servers."""

    experiment: Experiment
    externals: Externals

    # ---- models and adapters ----

    def source(self, variant: VariantConfig | None = None) -> Artifact:
        """The experiment's model, or the model that a variant names."""
        name = (variant and variant.model) or self.experiment.model
        return Artifact(f"model {name}", dict(self.externals.models.get(name, {"name": name})))

    def trained(self, variant: VariantConfig | None = None) -> Artifact:
        """The adapter that this run trains on the data, with every epoch.

        That of the section finetune, unless the variant has settings of its own. Variants of one
        model and the same settings have one adapter, which is named after the first of them.
        """
        return self._adapters_by_identity[self._trained_for(variant).identity]

    @cached_property
    def trainings(self) -> Sequence[VariantConfig | None]:
        """Whose adapters the run trains on the data, each adapter once.

        A variant stands for its own settings, None for the section's, which is left out if no
        variant needs it and others are trained.
        """
        if self.experiment.finetune is None:
            return []
        users = [v for v in self.experiment.variants if v.is_trained and not v.is_student]
        owners = [v if v.finetune is not None else None for v in users] or [None]
        first: dict[str, VariantConfig | None] = {}
        for owner in owners:
            first.setdefault(self.trained(owner).identity, owner)
        return list(first.values())

    @cached_property
    def _adapters_by_identity(self) -> Mapping[str, Artifact]:
        """The adapters that are trained on the data; of equal ones, the first."""
        own = [v for v in self.experiment.variants if v.finetune is not None and not v.is_student]
        adapters = [self._trained_for(variant) for variant in (None, *own)]
        return {adapter.identity: adapter for adapter in reversed(adapters)}

    def _trained_for(self, variant: VariantConfig | None) -> Artifact:
        own = variant if variant is not None and variant.finetune is not None else None
        config = self._training(own)
        name = FINETUNE if own is None else own.name
        inputs = {"model": self.source(own), "train": self._data("train")}
        return self._adapter(f"adapters/{name}", config, self._style(config.prompt), inputs)

    def pruned(self, variant: VariantConfig) -> Artifact:
        """The variant's model less a share of its layers."""
        facts = {
            "made": "pruned",
            "prune": variant.prune,
            "prompt": self._style(variant.prompt),
            "finetune": finetune_facts(
                self._training(variant), IRRELEVANT_TO_PRUNING, self.externals.files
            ),
        }
        inputs = {"model": self.source(variant), "train": self._data("train")}
        name = f"checkpoints/{variant.name}-pruned"
        return Artifact(name, facts | self._versions(MERGING), inputs)

    def student(self, variant: VariantConfig) -> Artifact:
        """The adapter of a pruned or distilled variant."""
        base = self.source(variant) if variant.prune is None else self.pruned(variant)
        examples = self._data("train") if variant.distil is None else self.answers(variant)
        inputs = {"model": base, "train": examples}
        style = self._style(variant.prompt)
        return self._adapter(f"adapters/{variant.name}", self._training(variant), style, inputs)

    def answers(self, student: VariantConfig) -> Artifact:
        """The answers of a variant's teacher to the training prompts."""
        teacher = self._variant(student.distil)
        config = self._training(student)
        workload = self.experiment.workload
        facts = {
            "made": "answers",
            "prompt": self._style(teacher.prompt),
            "finetune": {"limit": config.limit, "seed": config.seed},
            "workload": section_facts(
                workload, include={"api", "seed", "sampling", "deadlines", "transport"}
            ),
        }
        inputs = {**self.served(teacher), "train": self._data("train")}
        return Artifact(f"distil/{student.name}", facts | self._versions(MEASURING), inputs)

    def adapter(self, variant: VariantConfig) -> Artifact | None:
        """The adapter that a variant serves beside its model, or merges into it."""
        if variant.is_student:
            return self.student(variant)
        name = variant.adapter or variant.merge
        if name is None:
            return None
        if is_own(name):
            return self.trained(variant)
        return Artifact(f"adapter {name}", dict(self.externals.adapters.get(name, {"name": name})))

    def merged(self, variant: VariantConfig) -> Artifact | None:
        """The variant's adapter merged into its model."""
        if not (variant.merge or variant.is_student) or (adapter := self.adapter(variant)) is None:
            return None
        base = self.source(variant) if variant.prune is None else self.pruned(variant)
        facts = {"made": "merged", "epoch": epoch_of(variant.merge)}
        inputs = {"model": base, "adapter": adapter}
        name = f"checkpoints/{merged_name(variant, adapter)}"
        return Artifact(name, facts | self._versions(MERGING), inputs)

    def quantized(self, variant: VariantConfig) -> Artifact | None:
        """The variant's quantized checkpoint, which is named after the first variant that has it.

        Variants of other prompts have one each, since its recovery is measured in their words.
        """
        if (own := self._quantized_for(variant)) is None:
            return None
        return self._first_quantized.get((own.identity, variant.prompt), own)

    @cached_property
    def _first_quantized(self) -> Mapping[tuple[str, str | None], Artifact]:
        """By identity and prompt, the quantized checkpoint of the first variant that has it."""
        made = [(v.prompt, self._quantized_for(v)) for v in reversed(self.experiment.variants)]
        return {(each.identity, prompt): each for prompt, each in made if each is not None}

    def _quantized_for(self, variant: VariantConfig) -> Artifact | None:
        if (config := variant.quantize) is None:
            return None
        settings = section_facts(config, exclude={"recovery"})
        facts: dict[str, Any] = {"made": "quantized", "quantize": settings}
        inputs = {"model": self.merged(variant) or self.source(variant)}
        packages: tuple[str, ...] = QUANTIZING
        if config.calibrated:
            facts["prompt"] = self._style(variant.prompt)
            inputs["train"] = self._data("train")
        else:
            settings.pop("calibration")
        if config.method.startswith("bnb"):
            packages = (*packages, "bitsandbytes")
        return Artifact(f"checkpoints/{variant.name}", facts | self._versions(packages), inputs)

    def recovery(self, variant: VariantConfig) -> Artifact | None:
        """What quantizing the variant lost, on the held-out examples."""
        if (quantized := self.quantized(variant)) is None:
            return None
        facts = {"made": "recovery", "prompt": self._style(variant.prompt)}
        inputs = {"model": quantized, "heldout": self._data("eval")}
        return Artifact(f"{quantized.name}/recovery", facts | self._versions(QUANTIZING), inputs)

    def checkpoint(self, variant: VariantConfig) -> Artifact | None:
        """The folder that a variant is served from; None unless the run writes it."""
        return self.quantized(variant) or self.merged(variant)

    # ---- servers ----

    def served(self, variant: VariantConfig) -> dict[str, Artifact]:
        """All parts of a variant's server, by the part each plays."""
        return self._endpoint(variant) if variant.url is not None else self._server(variant)

    def _endpoint(self, variant: VariantConfig) -> dict[str, Artifact]:
        """An API elsewhere, and the tokenizer that counts for it."""
        public = variant.public()
        facts: dict[str, Any] = {
            "url": shown_url(variant.urls[0]),
            "address": self.externals.addresses.get(variant.name),
            "model": variant.model,
            "request": section_facts(public.request, exclude=["traces"])
            if public.request
            else None,
        }
        if variant.other_urls:
            facts["other urls"] = [shown_url(url) for url in variant.other_urls]
        return {
            "api": Artifact(f"api {variant.name}", facts),
            "tokenizer": Artifact("tokenizer", dict(self.externals.tokenizer)),
        }

    def _server(self, variant: VariantConfig) -> dict[str, Artifact]:
        """A server of ours, its model and its adapters."""
        config = self.experiment.serve_of(variant)
        serve = section_facts(config, exclude=IRRELEVANT_TO_SERVERS)
        serve["engine"] = {
            name: self.externals.files.get(str(value), value)
            for name, value in config.options.items()
        }
        if (draft := draft_model(config.options)) and (contents := self.externals.files.get(draft)):
            serve["draft_model"] = contents
        facts = {"serve": serve, "epoch": epoch_of(variant.adapter), **self._versions(SERVING)}
        parts = {
            "server": Artifact(f"server {variant.name}", facts),
            "model": self.checkpoint(variant) or self.source(variant),
        }
        if variant.adapter and (adapter := self.adapter(variant)):
            parts["adapter"] = adapter
            # Adapters of one base and the same settings share a server; their number and the
            # largest set its flags.
            neighbours = [
                v
                for v in self.experiment.variants
                if v.adapter
                and not v.url
                and v.model == variant.model
                and is_same_server(self.experiment.serve_of(v), config)
            ]
            adapters = {a.identity: a for v in neighbours if (a := self.adapter(v))}
            # Epochs of one adapter count too.
            served = {} if len(adapters) == len(neighbours) else {"served": len(neighbours)}
            parts["beside"] = Artifact(
                "adapters of one server", served, dict(sorted(adapters.items()))
            )
        return parts

    # ---- parts ----

    def _adapter(
        self,
        name: str,
        config: FinetuneConfig,
        style: dict[str, Any] | None,
        inputs: Mapping[str, Artifact],
    ) -> Artifact:
        facts: dict[str, Any] = {
            "made": "adapter",
            "finetune": finetune_facts(config, IRRELEVANT_TO_ADAPTERS, self.externals.files),
            "prompt": style,
        }
        if config.watch == "score":
            facts["quality"] = section_facts(self.experiment.quality, include=Scoring.model_fields)
        packages = (*TRAINING, "bitsandbytes") if config.method == "qlora" else TRAINING
        facts |= self._versions(packages)
        return Artifact(name, facts, {**inputs, "heldout": self._data("eval")})

    def _data(self, name: str) -> Artifact:
        return Artifact(f"data.{name}", {"contents": self.externals.data.get(name)})

    def _training(self, variant: VariantConfig | None) -> FinetuneConfig:
        config = self.experiment.finetune_of(variant)
        assert config is not None
        return config

    def _style(self, name: str | None) -> dict[str, Any] | None:
        return section_facts(self.experiment.prompts[name]) if name else None

    def _variant(self, name: str | None) -> VariantConfig:
        return next(v for v in self.experiment.variants if v.name == name)

    def _versions(self, packages: Iterable[str]) -> dict[str, str]:
        return version_facts(self.externals.versions, packages)
