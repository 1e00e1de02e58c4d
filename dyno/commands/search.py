"""`dyno search`: the highest offered rate at which each variant keeps the SLO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from dyno.commands.load import LoadShape, PromptSource, Target, load_experiment_for
from dyno.estimates.timeline import Timeline
from dyno.experiment.schema import Experiment
from dyno.pipeline.block_runner import Interrupted
from dyno.pipeline.checkpoints import make_checkpoints
from dyno.pipeline.opened_run import OpenedRun, opened_experiment, opened_run
from dyno.pipeline.rounds import load_in_rounds
from dyno.pipeline.search import VariantSearches
from dyno.pipeline.search_plan import check_search, exit_of, searches_of, write_search
from dyno.pipeline.serving import plan_serving
from dyno.pipeline.training import make_adapters
from dyno.pipeline.variants import write_variants
from dyno.terminal.progress import open_console
from dyno.terminal.search import show_search
from foundation.errors import BadInput, DynoError, Exit, SystemFailed
from foundation.format import argument
from foundation.run.layout import RunDirectory
from foundation.wrong_values import wrong_value
from loadgen.config import SearchConfig
from loadgen.event_loop import run as run_loop
from loadgen.sending.descriptors import allow_connections
from results.capacity.search.record import CapacitySearch
from serve.device import device_for

__all__ = ["PromptSource", "SearchFlags", "Target", "search_file", "search_url"]

PROMPTS = 2_000
"""The different prompts that a search of a URL asks."""


@dataclass(frozen=True, kw_only=True)
class SearchFlags:
    """The flags of a search.

    `max_rate` and `max_time`: None leaves it to the experiment. `live`: whether a terminal shows
    one screen.
    """

    max_rate: str | None = None
    max_time: str | None = None
    live: bool = True

    def applied(self, experiment: Experiment) -> Experiment:
        """The experiment with this search, else with its own. Raises BadInput."""
        own = experiment.workload.search
        given = {"max_rate": self.max_rate, "max_time": self.max_time}
        settings = own.model_dump(mode="json") if own else {}
        settings |= {key: value for key, value in given.items() if value is not None}
        if "max_rate" not in settings:
            raise BadInput(
                "write --max-rate, the highest rate to try, such as --max-rate 50, or a stage "
                "{search: {max_rate: 50/s}}"
            )
        try:
            search = SearchConfig.model_validate(settings)
        except ValidationError as error:
            problem = error.errors()[0]
            flag = str(problem["loc"][0]).replace("_", "-")
            raise BadInput(f"--{flag}: {wrong_value(problem)}") from None
        workload = experiment.workload.model_copy(update={"search": search})
        changed = experiment.model_copy(update={"workload": workload})
        check_search(changed)
        return changed


def search_file(file: Path, out: Path, flags: SearchFlags) -> Exit:
    """Searches an experiment's variants, or goes on with a run that was cut off.

    Trains and writes missing checkpoints first. Raises BadInput and SystemFailed.
    """
    with opened_run(file, out, change=flags.applied, live=flags.live) as run:
        result, searches = _search(run)
    return _shown(result, searches, run.directory)


def search_url(
    target: Target,
    source: PromptSource,
    slo: Sequence[str],
    flags: SearchFlags,
    name: str,
    out: Path,
) -> Exit:
    """Searches a URL in a new run directory under `out`."""
    shape = LoadShape(rates=("1",), requests=PROMPTS, blocks=1, slo=slo)
    experiment = flags.applied(load_experiment_for(target, source, shape, name))
    with opened_experiment(experiment, Path.cwd(), out, live=flags.live) as run:
        result, searches = _search(run)
    return _shown(result, searches, run.directory)


def _search(run: OpenedRun) -> tuple[CapacitySearch, VariantSearches]:
    """Searches all variants and writes `search.json`."""
    prepared, out, progress = run.prepared, run.directory, run.progress
    experiment = prepared.experiment
    allow_connections(experiment.workload, len(experiment.variants))
    make_adapters(prepared, out, progress)
    make_checkpoints(prepared, out, progress)
    serving = plan_serving(prepared, out)
    write_variants(prepared, out, serving)
    timeline = Timeline((), device_for(experiment.serve).kind, progress)
    searches = searches_of(experiment, out, progress)
    assert searches is not None
    try:
        run_loop(load_in_rounds(prepared, serving, out, progress, timeline, searches))
    except (Interrupted, KeyboardInterrupt):
        progress.log(f"interrupted; go on with: dyno search {argument(out.path)}")
        raise KeyboardInterrupt from None
    return write_search(experiment, searches.records(prepared), out), searches


def _shown(result: CapacitySearch, searches: VariantSearches, run: RunDirectory) -> Exit:
    """Prints the result, and returns the exit code. Raises the error of what did not finish."""
    show_search(open_console(), result, run)
    if searches.unfinished:
        raise _unfinished(searches.unfinished, run)
    return exit_of(result)


def _unfinished(problems: Mapping[str, DynoError], out: RunDirectory) -> DynoError:
    """All problems in one line. They are bad input where each of them is."""
    lines = [
        f"{name}: {str(problem).removeprefix(f'{name}: ')}" for name, problem in problems.items()
    ]
    line = f"{'; '.join(lines)}; go on with: dyno search {argument(out.path)}"
    failures = [each for each in problems.values() if isinstance(each, SystemFailed)]
    if not failures:
        return BadInput(line)
    return SystemFailed(line, "\n".join(each.detail for each in failures))
