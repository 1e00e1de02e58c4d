"""The search for the highest offered rate that keeps the SLO.

Pure: probes in, the next probe or the outcome out. It answers with an interval: a rate shown to
hold and a rate shown to fail (`bracket`), each by requests that were counted. The next probe
is where the fewest are expected to remain after it (`next_rate`), as `posterior` guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, log, prod, sqrt
from typing import Literal

from foundation.format import rate_text
from results.capacity.search.bracket import ERROR, PATIENCE, Bracket, as_counted, bracket, effective
from results.capacity.search.next_rate import Evidence, candidates, next_rate, settled
from results.capacity.search.posterior import CapacityGuess, RateRange, guess
from results.capacity.search.probe import RateProbe, ShareLimit

CONFIDENCE = 0.95
TARGET_RATIO = 1.2
"""The search ends where the rate that fails is at most so many times the rate that holds."""
NEAR, NEAR_REQUESTS = 2.0, 625
"""Within this ratio of the ends, a probe has so many requests: so many arrive within 4 %."""
NEARLY, LONGER, SIZES = 0.9, 1.5, 14
"""A probe is as short as its chance to settle its rate allows: `NEARLY` that of the longest. It is
one of so many `SIZES`, each `LONGER` than the next."""
CONFIRMATION, CONFIRMATION_REQUESTS, CONFIRMATION_LIMITS = 2.0, 2_000, 50.0
"""How long a confirmation is: times the largest probe at its rate, requests, times the limit."""
SAME = 0.03
"""Rates closer than this (in the logarithm) are one: their probes count together."""
LONG_ENOUGH = 0.9
"""Of a confirmation's requests; so many at least arrive of those that are offered."""
ROUNDED = 0.005
"""Rates have three digits."""
LOWEST_SHARE = 0.01
CLEAR = 0.9
"""Where so many requests are over a limit without an overload, lower rates may be no better."""
SHARES, CONFIRMATION_SHARES = 8, 4
"""One probe and one confirmation take at most these parts of the time of a search."""
FEWEST_REQUESTS, FEWEST_AT_ALL = 100, 20
MARGIN = 1.5
"""So many times the requests of which none may be over the limit: a few always hang together."""
LIMITS = 2 * PATIENCE
"""A probe lasts so many times its limit, where time allows."""
USUAL_INFLATION = 8.0
"""That of a busy queue, where none was measured."""
ONE_LOWER = 0.8
"""Where the load generator could not offer a rate, this much of it is tried."""
FAR = 4.0
"""And at most so many times the requests/s that came to an end there."""


@dataclass(frozen=True)
class SearchEffort:
    """What a search may spend: probes, requests in one of them, and seconds of load in all."""

    probes: int = 12
    requests: int = 20_000
    seconds: float = inf


EFFORT = SearchEffort()


@dataclass(frozen=True)
class NextProbe:
    """What to measure: `requests` at `rate` requests/s, open loop."""

    rate: float
    requests: int
    purpose: Literal["search", "confirmation"]


@dataclass(frozen=True)
class SearchOutcome:
    """The end of a search.

    `holds`, `fails`: the ends of the interval that has the capacity with `CONFIDENCE`, None where
    no probe shows one. `resolved`: whether it says what was asked. `sentence`: what it says.
    """

    holds: float | None
    fails: float | None
    resolved: bool
    sentence: str


@dataclass(frozen=True)
class Search:
    """A search for the capacity of one variant within `limits`, of which there is at least one.

    `max_rate`: the highest rate that is tried. `prior`: a 95 % interval of the capacity from a
    model. `lowest`: the lowest rate that is tried.
    """

    limits: Sequence[ShareLimit]
    max_rate: float
    lowest: float
    prior: RateRange | None = None
    effort: SearchEffort = EFFORT

    @staticmethod
    def up_to(
        max_rate: float,
        limits: Sequence[ShareLimit],
        prior: RateRange | None = None,
        effort: SearchEffort = EFFORT,
    ) -> Search:
        """A search from a hundredth of `max_rate` on."""
        return Search(limits, max_rate, max_rate * LOWEST_SHARE, prior, effort)

    def after(self, probes: Sequence[RateProbe]) -> NextProbe | SearchOutcome:
        """What follows from all probes so far, in the order in which they were measured."""
        counted = [probe for probe in probes if probe.doubt is None]
        doubtful = [probe for probe in probes if probe.doubt is not None]
        roof = min([self.max_rate, *(_offered_at_most(probe) for probe in doubtful)])
        used = len(probes), sum(probe.seconds for probe in probes)
        step = replace(self, max_rate=roof, lowest=self.lowest)._after(counted, *used)
        if isinstance(step, SearchOutcome) and doubtful and _is_open(step):
            lowest = min(doubtful, key=lambda probe: probe.rate)
            why = f"{step.sentence}; at {_rate(lowest.rate)} {lowest.doubt}"
            return replace(step, resolved=False, sentence=why)
        return step

    def cut_short(self, probes: Sequence[RateProbe], reason: str) -> SearchOutcome:
        """The outcome of probes that no other can follow."""
        ends = bracket([probe for probe in probes if probe.doubt is None], self.limits)
        words = _changed(ends) if ends.contradicts else _words(ends)
        return _ended(ends, False, f"{words}; the search did not end: {reason}")

    def _after(
        self, probes: Sequence[RateProbe], spent: int, used: float
    ) -> NextProbe | SearchOutcome:
        """What follows from the probes that count, `spent` and `used` s with all the others."""
        ends = bracket(probes, self.limits)
        if (outcome := self._outcome(probes, ends)) is not None:
            return outcome
        step = self._confirmation(probes, ends.holds.offered) if self._closed(ends) else None
        step = step or self._in_time(self._search(probes, ends), self.effort.seconds - used)
        if spent < self.effort.probes and used + step.requests / step.rate <= self.effort.seconds:
            return step
        is_narrow = ends.ratio <= TARGET_RATIO or ends.fails.rate == inf
        what = "not confirmed" if self._closed(ends) and is_narrow else "unresolved"
        probed = f"{spent} probe{'s' if spent != 1 else ''}, {used:.0f} s"
        more = "probes" if spent >= self.effort.probes else "time"
        words = f"{_words(ends)}{_kept(probes, ends)}; {what} after {probed}; more {more} may help"
        return _ended(ends, False, words)

    def _in_time(self, step: NextProbe, left_s: float) -> NextProbe:
        """The probe in the time that is left, where that is enough to show that a rate holds."""
        most = max(left_s * step.rate, self.fewest(step.rate))
        return replace(step, requests=int(min(step.requests, most)))

    def _closed(self, ends: Bracket) -> bool:
        return ends.ratio <= TARGET_RATIO or ends.holds.offered >= self.max_rate

    def _outcome(self, probes: Sequence[RateProbe], ends: Bracket) -> SearchOutcome | None:
        """The outcome, None while there is something to measure."""
        if ends.contradicts:
            return _ended(ends, False, _changed(ends))
        if ends.fails.offered <= self.lowest:
            return _ended(
                ends,
                True,
                f"no rate holds: {_rate(ends.fails.rate)}, the lowest tried, fails already",
            )
        if self._closed(ends) and self._is_confirmed(probes, ends.holds.offered):
            return _ended(ends, True, _words(ends))
        return None

    def _is_confirmed(self, probes: Sequence[RateProbe], rate: float) -> bool:
        """Whether the last probe is of the rate that holds, and the second there or a long one."""
        at_end, last = [probe for probe in probes if probe.rate == rate], probes[-1]
        is_long = last.requests >= LONG_ENOUGH * self._long(rate)
        return last.rate == rate and (len(at_end) > 1 or is_long)

    # ---- the next probe ----

    @property
    def _support(self) -> RateRange:
        """Where the capacity may be, as far as that matters."""
        return RateRange(self.lowest / TARGET_RATIO, self.max_rate * TARGET_RATIO)

    def _long(self, rate: float) -> int:
        """The requests of a probe that confirms its rate."""
        requests = max(CONFIRMATION_REQUESTS, CONFIRMATION_LIMITS * self._longest_limit * rate)
        return self._possible(requests, rate, CONFIRMATION_SHARES)

    def _confirmation(self, probes: Sequence[RateProbe], rate: float) -> NextProbe:
        """One long probe: a server near its capacity may seem to hold for a while."""
        largest = max(probe.requests for probe in probes if probe.rate == rate)
        requests = self._possible(CONFIRMATION * largest, rate, CONFIRMATION_SHARES)
        return NextProbe(rate, max(requests, self._long(rate)), "confirmation")

    @property
    def _longest_limit(self) -> float:
        """The longest limit on a time, s."""
        return max((limit.limit or 0.0) / 1e3 for limit in self.limits)

    def _search(self, probes: Sequence[RateProbe], ends: Bracket) -> NextProbe:
        if not probes and self.prior is None:  # a full server shows what it can do
            return self._probe(self._settled_rate(self.max_rate), 0)
        if ends.holds.rate == 0 and _fails_unloaded(probes, ends):
            return NextProbe(self.lowest, FEWEST_AT_ALL, "search")
        guesses = [guess(probes, limit, self._support, self.prior) for limit in self.limits]
        rate = self._settled_rate(_near(probes, self._wanted_rate(guesses, ends, probes)))
        requests = max(self._needed(rate, each, probes) for each in guesses)
        if ends.ratio <= NEAR:
            requests = max(requests, NEAR_REQUESTS)
        if ends.fails.rate <= rate * TARGET_RATIO:
            return self._probe(rate, max(requests, self._long(rate)), CONFIRMATION_SHARES)
        return self._probe(rate, requests)

    def _wanted_rate(
        self, guesses: Sequence[CapacityGuess], ends: Bracket, probes: Sequence[RateProbe]
    ) -> float:
        """The rate after which the fewest probes remain, for the limit that is met first."""
        first = min(guesses, key=lambda each: each.median)
        support = self._support
        reached = RateRange(max(ends.holds.rate, support.low), min(ends.fails.rate, support.high))
        rates = [_near(probes, rate) for rate in candidates(reached, self.max_rate)]
        most = self.effort.requests
        tried = {
            rate: self._evidence(rate, most, first, probes)
            for rate in rates
            if max(ends.holds.offered, self.lowest) < rate < ends.fails.offered
        }
        return next_rate(first, reached, TARGET_RATIO, tried) if tried else rates[len(rates) // 2]

    def _evidence(
        self, rate: float, requests: float, of: CapacityGuess, probes: Sequence[RateProbe]
    ) -> Evidence:
        """What is known of a rate, and what a probe of so many requests adds."""
        metric = of.limit.metric
        same = [probe for probe in as_counted(probes, metric) if probe.rate == rate]
        over, before = effective(same, metric)
        more = self._possible(requests, rate) / _inflation_near(probes, rate, of)
        return Evidence(over, before, more)

    def _settled_rate(self, rate: float) -> float:
        if rate >= self.max_rate * (1 - ROUNDED):
            return self.max_rate
        return max(float(f"{rate:.3g}"), self.lowest)

    def _needed(self, rate: float, guessed: CapacityGuess, probes: Sequence[RateProbe]) -> float:
        """The requests whose chance to settle whether `rate` holds is nearly that of the most."""
        sizes = [self.effort.requests / LONGER**power for power in range(SIZES)]
        chances = [
            settled(guessed, rate, self._evidence(rate, size, guessed, probes)) for size in sizes
        ]
        return min(
            size for size, each in zip(sizes, chances, strict=True) if each >= NEARLY * chances[0]
        )

    def fewest(self, rate: float) -> int:
        """The requests of which none may be over the limit, for a rate to be shown to hold."""
        allowed = min(limit.allowed for limit in self.limits)
        independent = MARGIN * log(ERROR) / log(1 - allowed)
        return self._possible(
            max(independent, FEWEST_REQUESTS, LIMITS * self._longest_limit * rate), rate
        )

    def _probe(self, rate: float, requests: float, shares: int = SHARES) -> NextProbe:
        possible = self._possible(requests, rate, shares)
        return NextProbe(rate, max(possible, self.fewest(rate)), "search")

    def _possible(self, requests: float, rate: float, shares: int = SHARES) -> int:
        """So many requests, or as many as a probe may take of the time, of `shares` shares."""
        in_time = max(self.effort.seconds / shares * rate, FEWEST_AT_ALL)
        return ceil(min(requests, self.effort.requests, in_time))


def shortest_search(limit_s: float) -> float:
    """The seconds that a search needs to show that a limit on a time holds."""
    return PATIENCE * limit_s * SHARES


def _ended(ends: Bracket, resolved: bool, sentence: str) -> SearchOutcome:
    fails = ends.fails.rate
    return SearchOutcome(
        ends.holds.rate or None, None if fails == inf else fails, resolved, sentence
    )


def _offered_at_most(doubtful: RateProbe) -> float:
    """The highest rate to try where the load generator could not offer one.

    Far beyond what came to an end, neither it nor the server has anything to show.
    """
    lower = doubtful.rate * ONE_LOWER
    return min(lower, doubtful.completed * FAR) if doubtful.completed else lower


def _is_open(outcome: SearchOutcome) -> bool:
    """Whether a probe that did not count may be why the outcome says no more."""
    if not outcome.resolved or outcome.fails is None:
        return True
    return outcome.holds is not None and outcome.fails > TARGET_RATIO * outcome.holds


def _words(ends: Bracket) -> str:
    holds, fails = ends.holds.rate, ends.fails.rate
    if holds and fails < inf:
        return f"holds {_rate(holds)} and fails at {_rate(fails)}"
    if holds:
        return f"holds at least {_rate(holds)}; no rate was shown to fail"
    if fails < inf:
        return f"fails at {_rate(fails)}; no rate was shown to hold"
    return "no rate was shown to hold or to fail"


def _kept(probes: Sequence[RateProbe], ends: Bracket) -> str:
    """Names the highest rate between the ends that no request broke a limit at; empty without."""
    kept = [
        probe
        for probe in probes
        if ends.holds.rate < probe.rate < ends.fails.rate
        and probe.overloaded is None
        and not any(share.over for share in probe.shares.values())
    ]
    if not kept:
        return ""
    best = max(kept, key=lambda probe: probe.rate)
    return f"; {best.requests:,} requests at {_rate(best.rate)} kept the limits, too few to show it"


def _changed(ends: Bracket) -> str:
    return (
        f"unresolved: {_rate(ends.holds.rate)} held, and {_rate(ends.fails.rate)} failed, so the "
        "server did not stay as it was; search again while nothing else runs there"
    )


def _rate(rate: float) -> str:
    return f"{rate_text(rate)} requests/s"


def _fails_unloaded(probes: Sequence[RateProbe], ends: Bracket) -> bool:
    """Whether a lower rate failed as clearly as the highest: then the lowest may fail too."""
    if len(probes) < 2:
        return False
    last = probes[-1]
    return (
        last.rate == ends.fails.offered
        and all(probe.overloaded is None for probe in (probes[0], last))
        and all(share.over > CLEAR * share.requests for share in last.shares.values())
    )


def _near(probes: Sequence[RateProbe], rate: float) -> float:
    """The rate of an earlier probe that is as good as `rate`, else `rate` itself."""
    return min(
        (probe.rate for probe in probes if abs(log(probe.rate / rate)) < SAME),
        key=lambda known: abs(log(known / rate)),
        default=rate,
    )


def _inflation_near(probes: Sequence[RateProbe], rate: float, at: CapacityGuess) -> float:
    """The inflation to expect at a rate: of the probes on both sides that were not overloaded.

    It grows toward the capacity, so none is known above all of them.
    """
    steady = [probe for probe in probes if probe.overloaded is None]
    below = max((p for p in steady if p.rate <= rate), key=lambda p: p.rate, default=None)
    above = min((p for p in steady if p.rate > rate), key=lambda p: p.rate, default=None)
    known = [p.shares[at.limit.metric].inflation for p in (below, above) if p is not None]
    if above is None:
        known = [max([*known, USUAL_INFLATION])]
    return sqrt(prod(known)) if len(known) == 2 else known[0]
