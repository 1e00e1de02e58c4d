"""The search for the highest offered rate that keeps the SLO.

Pure: probes in, the next probe or the outcome out. It answers with an interval: a rate shown to
hold and a rate shown to fail (`search_bracket`), each by requests that were counted. The next probe
is where one end of that interval comes closer to the other; `search_posterior` guesses where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, inf, log, prod, sqrt
from typing import Literal

from scipy.special import ndtri

from results.capacity.search.bracket import ERROR, PATIENCE, Bracket, bracket
from results.capacity.search.posterior import CapacityGuess, RateRange, guess, quantiles
from results.capacity.search.probe import RateProbe, ShareLimit

CONFIDENCE = 0.95
TARGET_RATIO = 1.2
"""The search ends where the rate that fails is at most so many times the rate that holds."""
STEP = 0.07
"""How far (in the logarithm) from the probable capacity an end of the interval is tried."""
NEAR, NEAR_REQUESTS = 2.0, 625
"""Within this ratio of the ends, a probe has so many requests: so many arrive within 4 %."""
SURE = 0.84
"""The standard normal of the chance, 80 %, that a probe settles what it is for."""
CONFIRMATION, CONFIRMATION_REQUESTS, CONFIRMATION_LIMITS = 2.0, 2_000, 50.0
"""How long a confirmation is: times the largest probe at its rate, requests, times the limit."""
SAME = 0.03
"""Rates closer than this (in the logarithm) are one: their probes count together."""
LOWEST_SHARE = 0.01
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


@dataclass(frozen=True)
class SearchEffort:
    """What a search may spend: probes, requests in one of them, and seconds of load in all."""

    probes: int = 12
    requests: int = 20_000
    seconds: float = inf

    @property
    def probe_seconds(self) -> float:
        """The most seconds of one probe."""
        return self.seconds / SHARES


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
        roof = min([self.max_rate, *(probe.rate * ONE_LOWER for probe in doubtful)])
        used = len(probes), sum(probe.seconds for probe in probes)
        step = replace(self, max_rate=roof, lowest=self.lowest)._after(counted, *used)
        if isinstance(step, SearchOutcome) and doubtful and step.fails is None:
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
        step = step or self._search(probes, ends)
        if spent < self.effort.probes and used + step.requests / step.rate <= self.effort.seconds:
            return step
        what = "not confirmed" if self._closed(ends) else "unresolved"
        return _ended(ends, False, f"{_words(ends)}; {what} after {spent} probes, {used:.0f} s")

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
        at_end = [probe for probe in probes if probe.rate == ends.holds.offered]
        if self._closed(ends) and len(at_end) > 1 and probes[-1].rate == ends.holds.offered:
            return _ended(ends, True, _words(ends))
        return None

    # ---- the next probe ----

    def _confirmation(self, probes: Sequence[RateProbe], rate: float) -> NextProbe:
        """One long probe: a server near its capacity may seem to hold for a while."""
        largest = max(probe.requests for probe in probes if probe.rate == rate)
        requests = max(
            CONFIRMATION * largest,
            CONFIRMATION_REQUESTS,
            CONFIRMATION_LIMITS * self._longest_limit * rate,
        )
        in_time = max(self.effort.seconds / CONFIRMATION_SHARES * rate, FEWEST_AT_ALL)
        return NextProbe(rate, ceil(min(requests, self.effort.requests, in_time)), "confirmation")

    @property
    def _longest_limit(self) -> float:
        """The longest limit on a time, s."""
        return max((limit.limit or 0.0) / 1e3 for limit in self.limits)

    def _search(self, probes: Sequence[RateProbe], ends: Bracket) -> NextProbe:
        if not probes:
            return self._probe(self._settled_rate(self._first_rate()), 0)
        if ends.holds.rate == 0 and _fails_unloaded(probes, ends):
            return NextProbe(self.lowest, FEWEST_AT_ALL, "search")
        support = RateRange(self.lowest / 1.2, self.max_rate * 1.2)
        guesses = [guess(probes, limit, support, self.prior) for limit in self.limits]
        rate = self._settled_rate(_near(probes, self._wanted_rate(guesses, ends)))
        needed = self._needed(rate, guesses, probes)
        return self._probe(rate, max(needed, NEAR_REQUESTS) if ends.ratio <= NEAR else needed)

    def _first_rate(self) -> float:
        """The prior's middle, or the highest rate, at which a full server shows what it can do."""
        if self.prior is None:
            return self.max_rate
        return sqrt(self.prior.low * self.prior.high) * exp(-STEP)

    def _wanted_rate(self, guesses: Sequence[CapacityGuess], ends: Bracket) -> float:
        """A rate beside the probable capacity, on the side where the interval reaches further."""
        low, middle, high = quantiles(guesses, (0.35, 0.5, 0.65))
        floor, roof = max(ends.holds.rate, self.lowest), min(ends.fails.rate, self.max_rate)
        middle = min(max(middle, floor), roof)
        below = log(middle / ends.holds.rate) if ends.holds.rate else inf
        above = log(ends.fails.rate / middle)
        if below >= above:
            rate = max(min(low, middle * exp(-STEP)), floor * exp(STEP / 2))
        else:
            rate = min(max(high, middle * exp(STEP)), roof * exp(-STEP / 2))
            rate = self.max_rate if rate > self.max_rate * exp(-SAME) else rate
        return rate

    def _settled_rate(self, rate: float) -> float:
        return float(f"{min(max(rate, self.lowest), self.max_rate):.3g}")

    def _needed(
        self, rate: float, guesses: Sequence[CapacityGuess], probes: Sequence[RateProbe]
    ) -> float:
        """The requests that settle whether `rate` holds, as far as is guessed."""
        return max(
            _settling(each.limit.allowed, each.share_at(rate)) * _inflation_near(probes, rate, each)
            for each in guesses
        )

    def fewest(self, rate: float) -> int:
        """The requests of which none may be over the limit, for a rate to be shown to hold."""
        allowed = min(limit.allowed for limit in self.limits)
        independent = MARGIN * log(ERROR) / log(1 - allowed)
        return self._possible(
            max(independent, FEWEST_REQUESTS, LIMITS * self._longest_limit * rate), rate
        )

    def _probe(self, rate: float, requests: float) -> NextProbe:
        return NextProbe(rate, max(self._possible(requests, rate), self.fewest(rate)), "search")

    def _possible(self, requests: float, rate: float) -> int:
        in_time = max(self.effort.probe_seconds * rate, FEWEST_AT_ALL)
        return ceil(min(requests, self.effort.requests, in_time))


def shortest_search(limit_s: float) -> float:
    """The seconds that a search needs to show that a limit on a time holds."""
    return PATIENCE * limit_s * SHARES


def _ended(ends: Bracket, resolved: bool, sentence: str) -> SearchOutcome:
    fails = ends.fails.rate
    return SearchOutcome(
        ends.holds.rate or None, None if fails == inf else fails, resolved, sentence
    )


def _words(ends: Bracket) -> str:
    holds, fails = ends.holds.rate, ends.fails.rate
    if holds and fails < inf:
        return f"holds {_rate(holds)} and fails at {_rate(fails)}"
    if holds:
        return f"holds at least {_rate(holds)}; no rate was shown to fail"
    if fails < inf:
        return f"fails at {_rate(fails)}; no rate was shown to hold"
    return "no rate was shown to hold or to fail"


def _changed(ends: Bracket) -> str:
    return (
        f"unresolved: {_rate(ends.holds.rate)} held, and {_rate(ends.fails.rate)} failed, so the "
        "server did not stay as it was; search again while nothing else runs there"
    )


def _rate(rate: float) -> str:
    return f"{rate:.3g} requests/s"


def _fails_unloaded(probes: Sequence[RateProbe], ends: Bracket) -> bool:
    """Whether the last probe failed without being overloaded: then lower rates may fail too."""
    last = probes[-1]
    return last.overloaded is None and len(probes) > 1 and last.rate == ends.fails.offered


def _near(probes: Sequence[RateProbe], rate: float) -> float:
    """The rate of an earlier probe that is as good as `rate`, else `rate` itself."""
    return min(
        (probe.rate for probe in probes if abs(log(probe.rate / rate)) < SAME),
        key=lambda known: abs(log(known / rate)),
        default=rate,
    )


def _settling(allowed: float, share: float) -> float:
    """The independent requests that tell a share from the allowed one, by normal quantiles."""
    of_error = -float(ndtri(ERROR)) * sqrt(allowed * (1 - allowed))
    of_chance = SURE * sqrt(share * (1 - share))
    return ((of_error + of_chance) / max(abs(share - allowed), allowed / 10)) ** 2


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
