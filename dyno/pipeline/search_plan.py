"""What a search is to find, from the experiment, and `search.json`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf

from dyno.experiment.schema import Experiment
from dyno.pipeline.capacity import RunModels
from dyno.pipeline.decide import run_inputs
from dyno.pipeline.search import SearchPlan, VariantSearches
from foundation.errors import BadInput, Exit
from foundation.progress import Progress
from foundation.run.json_files import write_json
from foundation.run.layout import RunDirectory
from loadgen.sending.workers_needed import check_rate
from results.analysis import analyse
from results.capacity.plan.replica_rate import ModelledRate
from results.capacity.search.limits import share_limits
from results.capacity.search.posterior import RateRange
from results.capacity.search.record import CapacitySearch, VariantSearch, capacity_search
from results.capacity.search.search import SearchEffort, shortest_search


def check_search(experiment: Experiment) -> None:
    """Raises BadInput for a search that can't come to an end, before anything starts."""
    search, dataset = experiment.workload.search, experiment.workload.dataset
    if search is None:
        return
    limits, _ = share_limits(experiment.slo)
    longest = max((limit.limit or 0.0) / 1e3 for limit in limits)
    if search.max_time < (needed := shortest_search(longest)):
        raise BadInput(
            f"max_time: in {search.max_time:g}s no probe is long enough to show that a limit of "
            f"{longest:g}s holds; write {needed:g}s or more"
        )
    if dataset is not None and dataset.has_turns:
        raise BadInput(
            "workload.dataset: sessions of several turns arrive, and a session is several "
            "requests; search with single prompts"
        )
    if experiment.workload.machines is None:
        check_rate(search.max_rate, "max_rate")


def searches_of(
    experiment: Experiment, out: RunDirectory, progress: Progress
) -> VariantSearches | None:
    """The searches of an experiment; None if it has none."""
    if (search := experiment.workload.search) is None:
        return None
    limits, _ = share_limits(experiment.slo)
    plan = SearchPlan(limits, search.max_rate, SearchEffort(seconds=search.max_time))
    return VariantSearches(plan, out, progress, partial(modelled_ranges, experiment, out))


def modelled_ranges(experiment: Experiment, out: RunDirectory) -> dict[str, RateRange]:
    """Where the engine models of a run expect the capacities, by variant, requests/s.

    A model knows what one replica holds; a search is of all replicas together.
    There are none before the judged stage of the run has a journal. The search's own probes do not
    count, so that a search that goes on is the same one.
    """
    if not any(out.path.glob(f"load/*/{experiment.judged_stage}/block-*.jsonl")):
        return {}
    inputs = run_inputs(out, experiment)
    rates = RunModels.of(inputs, searched=False).rates(analyse(inputs), inputs)
    count = {each.name: experiment.replicas_of(each) for each in experiment.variants}
    return {
        name: RateRange(rate.rate.low * count[name], (rate.rate.high or inf) * count[name])
        for name, rate in rates.items()
        if isinstance(rate, ModelledRate) and rate.rate.low
    }


def write_search(
    experiment: Experiment, variants: Sequence[VariantSearch], out: RunDirectory
) -> CapacitySearch:
    """Writes `search.json`."""
    search = experiment.workload.search
    assert search is not None
    limits, notes = share_limits(experiment.slo)
    result = capacity_search(experiment.name, search.max_rate, limits, notes, variants)
    write_json(result, out.search)
    return result


def exit_of(result: CapacitySearch) -> Exit:
    """3 if no rate holds the SLO with any variant, 2 if one is unresolved, else 0."""
    if result.variants and all(v.resolved and v.holds is None for v in result.variants):
        return Exit.BAD_INPUT
    unresolved = not result.variants or any(not v.resolved for v in result.variants)
    return Exit.INCONCLUSIVE if unresolved else Exit.DONE
