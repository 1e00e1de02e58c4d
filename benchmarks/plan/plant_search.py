"""`dyno search`'s own search on an emulated plant: each probe is a load in virtual time."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.plan.plants import EmulatedPlant
from benchmarks.plan.truth import WARM_UP, Objective
from foundation.run.journal import Journal, read_journal
from foundation.run.layout import RunDirectory
from loadgen.emulator.virtual_run import VirtualRun
from loadgen.emulator.virtual_server import VirtualServer
from results.capacity.search.journal import read_probe
from results.capacity.search.limits import share_limits
from results.capacity.search.probe import RateProbe, ShareLimit
from results.capacity.search.search import NextProbe
from results.config import Slo

_VARIANT = "plant"


@dataclass(frozen=True)
class SearchedPlant:
    """A plant as `search_coverage` searches it. `capacity`: requests/s, from the emulator alone."""

    emulated: EmulatedPlant
    objective: Objective
    capacity: float

    @property
    def limits(self) -> list[ShareLimit]:
        """Its one objective."""
        slo = Slo({self.objective.metric: f"{self.objective.limit_ms}ms"})
        return share_limits(slo)[0]

    def probe(self, wanted: NextProbe, rng: np.random.Generator, since: float = 0.0) -> RateProbe:
        """Serves a probe, writes its journal, and reads it as the search does.

        The plant is `since` seconds older than at first, where it drifts.
        """
        before = int(wanted.requests * WARM_UP)
        server = VirtualServer(self.emulated.plant)
        server.now_ns = round(since * 1e9)
        load = self.emulated.load(wanted.rate, wanted.requests + before, rng)
        served = server.open_loop(load)
        warm_up = float(load.arrival[before])
        with tempfile.TemporaryDirectory() as name:
            run = RunDirectory(Path(name))
            files = VirtualRun(run, _VARIANT, self.emulated.plant, recorded=False)
            files.write(served, "search", offered_rate=wanted.rate, warmup=warm_up)
            journal = read_journal(run.journal(_VARIANT, "search", 1))
        assert isinstance(journal, Journal)
        probe = read_probe(journal, self.limits)
        assert probe is not None
        return probe
