"""The artifacts of an experiment: what each one depends on, and its place in the run directory.

data -> prompts -> questions;  what is served + questions + load -> journals
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dyno.artifacts.artifact import Artifact
from dyno.artifacts.facts import (
    MEASURING,
    rows_sha256,
    section_facts,
    stage_facts,
    without_styles,
    workload_facts,
)
from dyno.artifacts.served import ServedArtifacts
from dyno.experiment.variants import VariantConfig
from foundation.run.layout import SEARCH
from foundation.run.records import Prompt
from loadgen import questions_of
from loadgen.config import Stage
from results.config import Probe


@dataclass(frozen=True)
class Graph(ServedArtifacts):
    """The artifacts of one experiment: what is served, what is measured of it, and all places.

    `styles`: by variant, the style of its wordings in `prompts`. `corrected`: the styles whose
    length a server's token counts corrected. `measured_rates`: by stage, the relative rates that
    the run measured, in requests/s.
    """

    prompts: Sequence[Prompt]
    styles: Mapping[str, str]
    corrected: frozenset[str]
    measured_rates: Mapping[str, float]

    # ---- what is measured ----

    def stage(self, variant: VariantConfig, stage: Stage) -> Artifact:
        """The journals of a stage: one identity for all its blocks."""
        rate = self.measured_rates.get(stage.label) if stage.relative_rate else None
        settings = stage_facts(stage if rate is None else stage.at_rate(rate), self.externals.files)
        workload = self._workload(variant) | {"stages": {stage.label: settings}}
        facts: dict[str, Any] = {"workload": workload}
        inputs = self._server_and_questions(variant, "eval")
        if stage.mix is not None:
            facts["place"] = [v.name for v in self.experiment.variants].index(variant.name)
            for other in self.experiment.variants:
                for part, artifact in self._server_and_questions(other, "eval").items():
                    inputs[f"{other.name}: {part}"] = artifact
        return self._journals(f"load/{variant.name}/{stage.label}", facts, inputs)

    def probe(self, variant: VariantConfig, probe: Probe) -> Artifact:
        """The journal of a probe."""
        workload = self._workload(variant)
        workload["sampling"] = workload["sampling"] | {"max_tokens": probe.max_tokens}
        workload.pop("warmup")
        return self._journals(
            f"load/{variant.name}/probe-{probe.name}",
            {"workload": workload, "probe": probe.name},
            self._server_and_questions(variant, probe.name),
        )

    def closed_loops(self, variant: VariantConfig) -> Artifact:
        """The closed loops that measure the rate that a variant holds."""
        return self._journals(
            f"rate of {variant.name}",
            {"workload": self._workload(variant)},
            self._server_and_questions(variant, "eval"),
        )

    def model_loads(self, variant: VariantConfig) -> Artifact:
        """The loads that measure the step times of a variant."""
        workload = workload_facts(self.experiment.workload)
        facts = {"workload": {key: workload[key] for key in ("api", "transport", "seed")}}
        return self._journals(f"model/{variant.name}", facts, self.served(variant))

    def loads_of_models(self) -> dict[str, Artifact]:
        """The loads that measure step times, by their folder in the run."""
        return {each.name: each for each in map(self.model_loads, self.experiment.variants)}

    def search(self, variant: VariantConfig) -> Artifact:
        """The probes of a search: one identity for all rates."""
        workload = self.experiment.workload
        arrivals = [(s.arrivals, s.burstiness) for s in workload.stages if s.rate is not None]
        facts = {"workload": self._workload(variant), "arrivals": arrivals[:1]}
        inputs = self._server_and_questions(variant, "eval")
        return self._journals(f"load/{variant.name}/{SEARCH}NN", facts, inputs)

    @property
    def rates(self) -> Artifact:
        """The relative rates, as measured."""
        relative = {
            s.label: s.relative_rate for s in self.experiment.workload.stages if s.relative_rate
        }
        facts = {label: {"of": rate.of, "share": rate.share} for label, rate in relative.items()}
        names = dict.fromkeys(rate.of for rate in relative.values())
        loops = {name: self.closed_loops(self._variant(name)) for name in names}
        return Artifact("rates", facts, loops)

    @property
    def prompts_file(self) -> Artifact:
        """`prompts.jsonl`, less the wordings that servers' token counts add to it."""
        inputs = {name: self._data(name) for name in self.externals.data if name != "train"}
        facts = {
            "contents": rows_sha256(without_styles(p, self.corrected) for p in self.prompts),
            "styles": {name: section_facts(p) for name, p in self.experiment.prompts.items()},
        }
        return Artifact("prompts", facts, inputs)

    @cached_property
    def folders(self) -> Sequence[Artifact]:
        """Adapters and checkpoints, each after its inputs.

        One that several variants share comes several times.
        """
        artifacts: list[Artifact | None] = [self.trained(each) for each in self.trainings]
        for variant in self.experiment.variants:
            if variant.prune is not None:
                artifacts.append(self.pruned(variant))
            if variant.is_student:
                artifacts.append(self.student(variant))
            artifacts += [self.merged(variant), self.quantized(variant)]
        return [artifact for artifact in artifacts if artifact is not None]

    def measurements(self) -> dict[str, Artifact]:
        """The journals of every variant's stages and probes, by their folder in the run."""
        variants = self.experiment.variants
        stages, probes = self.experiment.workload.stages, self.experiment.quality.probes
        journals = [self.stage(variant, stage) for variant in variants for stage in stages]
        journals += [self.probe(variant, probe) for variant in variants for probe in probes]
        return {artifact.name: artifact for artifact in journals}

    def all(self) -> dict[str, Artifact]:
        """Every artifact with its inputs, by place."""
        ends = [*self.folders, *self.measurements().values(), self.prompts_file]
        if self.rates.inputs:
            ends.append(self.rates)
        return {self.place(each): each for end in ends for each in end.with_inputs()}

    # ---- places ----

    def place(self, artifact: Artifact) -> str:
        """The path of an artifact's folder in the run.

        It is the artifact's name, plus the start of its identity if two artifacts share the name.
        """
        identities = self._identities_of_names.get(artifact.name.casefold(), frozenset())
        # A quantized checkpoint keeps its variant's name, which the report reads.
        if identities <= {artifact.identity} or artifact.facts.get("made") == "quantized":
            return artifact.name
        return f"{artifact.name}-{artifact.identity[:8]}"

    @cached_property
    def _identities_of_names(self) -> Mapping[str, frozenset[str]]:
        """By name without case, the identities of its folders."""
        identities: dict[str, set[str]] = {}
        for artifact in self.folders:
            identities.setdefault(artifact.name.casefold(), set()).add(artifact.identity)
        return {name: frozenset(each) for name, each in identities.items()}

    # ---- parts ----

    def _workload(self, variant: VariantConfig) -> dict[str, Any]:
        """The settings that every block of a variant depends on."""
        return workload_facts(self.experiment.workload_of(variant))

    def _journals(
        self, name: str, facts: Mapping[str, Any], inputs: Mapping[str, Artifact]
    ) -> Artifact:
        machine = Artifact("machine", {"machine": dict(self.externals.machine)})
        measured = {"made": "journals", **facts, **self._versions(MEASURING)}
        return Artifact(name, measured, {**inputs, "machine": machine})

    def _server_and_questions(self, variant: VariantConfig, group: str) -> dict[str, Artifact]:
        questions = Artifact(
            f"questions to {variant.name} ({group})",
            {"questions": self._questions.get((group, variant.name))},
        )
        return {**self.served(variant), "questions": questions}

    @cached_property
    def _questions(self) -> Mapping[tuple[str, str], str]:
        """By set and variant, a hash of the questions without their reference answers."""
        groups: dict[str, list[Prompt]] = {"eval": []}
        for prompt in self.prompts:
            groups.setdefault(prompt.set, []).append(prompt)
        by_style = {
            (group, style): rows_sha256(
                questions_of([p for p in prompts if style in p.messages], style)
            )
            for group, prompts in groups.items()
            for style in set(self.styles.values())
        }
        return {
            (group, name): by_style[group, style]
            for name, style in self.styles.items()
            for group in groups
        }
