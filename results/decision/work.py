"""What a remedy does to the work of a request, and what that does to the value that binds.

A time of a stage has parts: waiting, prefill, decode and the rest. A remedy changes the work in
prefill and decode. Waiting follows the work, since a server that is sooner done is sooner free; it
falls at least in proportion. The rest (network, client) stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from results.summary import StageSummary


@dataclass(frozen=True)
class RequestWork:
    """Factors on the work of a request; 1 leaves it as it is.

    `decode`: the time of an output token. `prefill`: the time of a prompt token. `output`, `input`:
    how many tokens there are. `step_tokens`: the most tokens of an engine step, None as it is; only
    a model of the engine says what it does.
    """

    decode: float = 1.0
    prefill: float = 1.0
    output: float = 1.0
    input: float = 1.0
    step_tokens: int | None = None

    def then(self, other: RequestWork) -> RequestWork:
        """Both changes, one after the other."""
        return RequestWork(
            self.decode * other.decode,
            self.prefill * other.prefill,
            self.output * other.output,
            self.input * other.input,
            other.step_tokens or self.step_tokens,
        )


@dataclass(frozen=True)
class TimeParts:
    """The parts of the mean latency of a stage, ms."""

    waiting: float
    prefill: float
    decode: float
    rest: float

    @classmethod
    def of(cls, stage: StageSummary) -> TimeParts | None:
        """From the stage's waterfall, else from its TTFT and latency; None without times."""
        latency, first = (stage.metrics[key].value for key in ("latency_mean", "ttft_mean"))
        if latency is None or latency <= 0 or first is None:
            return None
        segments = stage.waterfall.segments if stage.waterfall else {}
        means = {key: max(each.mean.value or 0.0, 0.0) for key, each in segments.items()}
        decode = min(means.get("decode", latency - first), latency)
        prefill = means.get("prefill", means.get("before_first", first))
        prefill = min(max(prefill, 0.0), latency - decode)
        waiting = min(
            means.get("before_queue", 0.0) + means.get("queued", 0.0), latency - decode - prefill
        )
        return cls(waiting, prefill, decode, latency - decode - prefill - waiting)

    def after(self, work: RequestWork) -> TimeParts:
        """The parts after a change of the work."""
        changed = replace(
            self,
            prefill=self.prefill * work.prefill * work.input,
            decode=self.decode * work.decode * work.output,
        )
        waiting = self.waiting * _ratio(changed.service, self.service)
        return replace(changed, waiting=waiting)

    @property
    def service(self) -> float:
        """The time that a server works on a request, ms."""
        return self.prefill + self.decode

    @property
    def first(self) -> float:
        """The time to the first token, ms; the rest counts with it."""
        return self.waiting + self.prefill + self.rest

    @property
    def latency(self) -> float:
        """The whole, ms."""
        return self.first + self.decode


def factor_on(family: str, parts: TimeParts, work: RequestWork) -> float:
    """The factor on the times of a family, such as "ttft"; on the work where it is no time."""
    after = parts.after(work)
    if family in ("tpot", "itl", "icl"):
        return work.decode
    if family == "prefill":
        return work.prefill * work.input
    if family.endswith("ttft"):
        return _ratio(after.first, parts.first)
    if family.endswith("latency"):
        return _ratio(after.latency, parts.latency)
    return _ratio(after.service, parts.service)


def _ratio(after: float, before: float) -> float:
    """1 where there was nothing before."""
    return after / before if before > 0 else 1.0
