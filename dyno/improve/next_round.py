"""Plans the next round: the variant that is nearest to shipping, its remedies, their variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from msgspec.structs import replace

from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from dyno.improve.candidates import offered
from dyno.improve.engine_expectations import EngineExpectations
from dyno.improve.measured_run import MeasuredRun
from dyno.improve.round_experiment import made_as, new_variant, round_experiment, with_needed
from dyno.pipeline.relative_rates import at_rates, read_rates
from foundation.errors import BadInput
from foundation.run.layout import round_folder
from foundation.yaml_values import YamlValue
from results.decision.advice import blocks_needed
from results.decision.improvement.choice import Knowledge, RemedyChoice, choose, nearest_first
from results.decision.improvement.expectation import (
    CANDIDATE,
    ExpectedRemedy,
    is_floor,
    on_metric,
)
from results.decision.improvement.record import (
    ImproveRound,
    KnownEffect,
    SkippedRemedy,
    TriedRemedy,
)
from results.decision.verdict import binding_of
from results.summary import VariantVerdict

A_ROUND = 2
"""Remedies of a round: with the baseline and the variant that they change, four servers."""
MOST_BLOCKS = 4
"""A round has at most so many times the blocks of the run."""


@dataclass(frozen=True)
class PlannedRound:
    """A round and its experiment. `new`: the variants of its remedies."""

    record: ImproveRound
    experiment: Experiment
    new: Sequence[VariantConfig]

    def without_last(self, why: str) -> PlannedRound:
        """The round less the remedy that would be tried last. `why`: it is left out."""
        *tried, left_out = self.record.tried
        skipped = [*self.record.skipped, SkippedRemedy(remedy=left_out.remedy, why=why)]
        variants = [v for v in self.experiment.variants if v.name != left_out.variant]
        return PlannedRound(
            replace(self.record, tried=tried, skipped=skipped),
            self.experiment.model_copy(update={"variants": tuple(variants)}),
            [v for v in self.new if v.name != left_out.variant],
        )


@dataclass
class RoundPlanner:
    """Plans rounds on what was measured so far.

    `known`: all variants so far, in the order in which they came. `refused`: why a remedy's
    variant can't be built here, by what it is made of. `skipped`: what the last plan left out.
    """

    first: MeasuredRun
    known: dict[str, VariantConfig]
    effects: list[KnownEffect]
    refused: dict[str, str] = field(default_factory=dict)
    skipped: list[SkippedRemedy] = field(default_factory=list)
    _engines: EngineExpectations | None = None

    @cached_property
    def load(self) -> Experiment:
        """The run's experiment at the rates that it measured, so that the load stays the same."""
        rates = read_rates(self.first.directory.rates, self.first.experiment)
        return at_rates(self.first.experiment, rates) if rates else self.first.experiment

    def next(self, latest: MeasuredRun, number: int, seconds: float) -> PlannedRound | None:
        """The next round; None where nothing is left to try or to measure longer.

        `seconds`: the most that adding blocks may take.
        """
        self.skipped = []
        nearest = nearest_first(latest.summary, latest.verdicts)
        for verdict in nearest:
            choice = self._choice(verdict, latest)
            if choice is None:
                continue
            pairs = self._variants(choice)
            if pairs:
                return self._planned(choice, pairs, number, seconds, self._blocks(verdict, latest))
        longer = self._blocks(nearest[0], latest) if nearest else 0
        if longer > self.first.experiment.workload.blocks and longer > _blocks_of(latest):
            choice = self._choice(nearest[0], latest)
            return self._planned(choice, [], number, seconds, longer) if choice else None
        return None

    def _choice(self, verdict: VariantVerdict, latest: MeasuredRun) -> RemedyChoice | None:
        if self._engines is None or self._engines.run is not latest:
            self._engines = EngineExpectations(latest)
        knowledge = Knowledge(
            offered(self.first.experiment), self.effects, self._is_new, self._engines.of
        )
        return choose(verdict, latest.summary, latest.inputs, knowledge)

    def _is_new(self, keys: Mapping[str, YamlValue]) -> bool:
        """Whether no variant so far is made of this. What can't be a variant is new."""
        try:
            made = made_as(new_variant(keys, ()))
        except BadInput:
            return True
        return all(made_as(variant) != made for variant in self.known.values())

    def _variants(self, choice: RemedyChoice) -> list[tuple[ExpectedRemedy, VariantConfig]]:
        """The remedies of a round with their variants, less those that can't be built."""
        self.skipped = [*choice.skipped]
        pairs: list[tuple[ExpectedRemedy, VariantConfig]] = []
        for expected in choice.remedies:
            names = [*self.known, *(variant.name for _, variant in pairs)]
            try:
                variant = self._variant(expected, names)
                self._experiment(choice, [*(before for _, before in pairs), variant], 1, 0.0)
            except BadInput as error:
                why = str(error)
            else:
                why = self.refused.get(made_as(variant), "")
                if not why:
                    pairs.append((expected, variant))
            if why:
                self.skipped.append(SkippedRemedy(remedy=expected.remedy.words.remedy, why=why))
            if len(pairs) == A_ROUND:
                break
        return pairs

    def _variant(self, expected: ExpectedRemedy, names: Sequence[str]) -> VariantConfig:
        """The variant of a remedy; a candidate as the experiment has it, with its secrets."""
        patch = expected.remedy.patch
        assert patch is not None and patch.variant is not None
        section = self.first.experiment.improve
        if section and expected.remedy.kind == CANDIDATE:
            name = patch.variant["name"]
            return next(each.variant for each in section.candidates if each.name == name)
        return new_variant(patch.variant, names)

    def _planned(
        self,
        choice: RemedyChoice,
        pairs: Sequence[tuple[ExpectedRemedy, VariantConfig]],
        number: int,
        seconds: float,
        blocks: int,
    ) -> PlannedRound:
        case, new = choice.case, [variant for _, variant in pairs]
        floor = is_floor(case.binding)
        record = ImproveRound(
            number=number,
            folder=round_folder(number),
            variant=case.variant.variant,
            metric=case.binding.metric,
            label=case.binding.label,
            floor=floor,
            about=case.about,
            binding=case.binding.sentence,
            blocks=blocks,
            tried=[_tried(expected, variant, floor) for expected, variant in pairs],
            skipped=list(self.skipped),
        )
        return PlannedRound(record, self._experiment(choice, new, blocks, seconds), new)

    def _experiment(
        self, choice: RemedyChoice, new: Sequence[VariantConfig], blocks: int, seconds: float
    ) -> Experiment:
        """The baseline, the variant that is changed and the new ones. Raises BadInput."""
        names = [self.first.experiment.baseline, choice.case.variant.variant]
        stood = with_needed(names, self.known, self.load)
        return round_experiment(self.load, stood, new, blocks, seconds)

    def _blocks(self, verdict: VariantVerdict, latest: MeasuredRun) -> int:
        """The blocks of a round: the run's, or what settles a variant that is not settled."""
        usual = self.first.experiment.workload.blocks
        variant = next(v for v in latest.summary.variants if v.variant == verdict.variant)
        stage, binding = variant.at_judged_stage, binding_of(verdict.objectives)
        if stage is None or binding is None or binding.outcome != "unsettled":
            return usual
        more = binding.more
        if more is None or more.total is None or more.unit == "prompts":
            return usual
        return min(max(usual, blocks_needed(more, more.total, stage)), MOST_BLOCKS * usual)


def _blocks_of(run: MeasuredRun) -> int:
    """The most blocks of the judged stage that a variant of a run has."""
    stages = [variant.at_judged_stage for variant in run.summary.variants]
    return max((stage.blocks for stage in stages if stage is not None), default=0)


def _tried(expected: ExpectedRemedy, variant: VariantConfig, floor: bool) -> TriedRemedy:
    remedy = expected.remedy
    published, factor = (
        None if each is None else on_metric(each, floor)
        for each in (remedy.expected, expected.factor)
    )
    return TriedRemedy(
        variant=variant.name,
        kind=remedy.kind,
        remedy=remedy.words.remedy,
        change=remedy.advice.change or "",
        source=expected.source,
        published=published,
        expected=factor,
        score_published=remedy.keeps,
        score_expected=expected.keeps,
    )
