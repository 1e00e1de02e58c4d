"""The remedies that an experiment offers itself, as `results` takes remedies."""

from __future__ import annotations

from dyno.experiment.improve import CandidateConfig
from dyno.experiment.schema import Experiment
from dyno.pipeline.settings import written
from dyno.pipeline.variants import describe
from results.decision.binding_case import Remedy
from results.decision.improvement.endings import effect_text
from results.decision.improvement.expectation import CANDIDATE
from results.decision.patch import Patch
from results.summary import Advice


def offered(experiment: Experiment) -> list[Remedy]:
    """A remedy for each candidate of the section improve."""
    section = experiment.improve
    return [_remedy(candidate) for candidate in section.candidates] if section else []


def _remedy(candidate: CandidateConfig) -> Remedy:
    what = describe(candidate.variant)
    return Remedy(
        CANDIDATE,
        candidate.expected,
        Advice(
            remedy=f"Take {candidate.name}: {what}",
            why="The experiment offers it.",
            effect=effect_text(candidate.expected),
            source="the experiment's section improve",
        ),
        Patch(written(candidate.variant)),
    )
