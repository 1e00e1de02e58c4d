"""The section `workload` of `experiment.yaml`: requests, their times, and their deadlines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from foundation.http.endpoint import Api
from foundation.names import checked_name, name_from
from foundation.path_fields import FileOrName
from foundation.section import Section
from foundation.units import Count, Rate, Seconds, Share
from loadgen import names_in_other_tools
from loadgen.dataset_config import _DATASETS, Dataset, Recording


class Bursts(Section):
    """Traffic that comes for `on` and rests for `off`, repeatedly. `rate` is still its mean."""

    on: Seconds
    off: Seconds

    @model_validator(mode="after")
    def _some_of_each(self) -> Bursts:
        if not (self.on and self.off):
            raise ValueError("on and off must be above zero")
        return self


class TraceReplay(Recording):
    """Recorded traffic, replayed at its own times. `speed` 2 is twice as fast."""

    speed: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class Mix(Section):
    """The variant that an arrival is for.

    `uniform`: all variants equally. `zipf`: the n-th in the list in proportion to 1 / n^`zipf`.
    """

    uniform: bool = False
    zipf: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"uniform": True} if value == "uniform" else value

    @model_validator(mode="after")
    def _one_of_them(self) -> Mix:
        if self.uniform == (self.zipf is not None):
            raise ValueError("write mix: uniform, or mix: {zipf: 1.1}")
        return self


class RelativeRate(Section):
    """A share of the throughput that the variant `of` reaches on this machine.

    A short closed loop measures that throughput before the stages begin, so one file suits a laptop
    and a rack.
    """

    of: str
    share: Share = Field(gt=0)


def _rate_kind(value: Any) -> str:
    return "relative" if isinstance(value, dict | RelativeRate) else "fixed"


RATE_KINDS = ("fixed", "relative")
"""The tags of the two ways to write a rate. pydantic puts them into the path of an error."""

OfferedRate = Annotated[
    Annotated[Rate, Tag("fixed")] | Annotated[RelativeRate, Tag("relative")],
    Discriminator(_rate_kind),
]


class Stage(Section):
    """One offered load: `rate` or `trace` (open loop; requests/s, or a recording) or `concurrency`
    (closed).

    `rate: {of: merged, share: 60%}` is relative to a variant's throughput (`RelativeRate`).

    `duration` and `requests` are per block and variant, and the first `one_more_in` blocks send one
    request more. With a dataset of conversations, `rate` and `requests` count sessions.
    `burstiness` is the shape of gamma gaps: 1 is Poisson, below 1 they come in clumps (vLLM's
    meaning of the word). `rate_to`: the rate changes to this over the window, in a line or in
    `steps` of equal length. `think`: how long a user waits after an answer, in a closed loop or
    between the turns of a session. `mix`: all variants at once, each arrival for one.
    """

    elsewhere: ClassVar[Mapping[str, str]] = names_in_other_tools.STAGE

    name: str = ""
    rate: OfferedRate | None = None
    arrivals: Literal["poisson", "constant", "gamma"] = "poisson"
    burstiness: float | None = Field(default=None, gt=0)
    rate_to: Rate | None = None
    steps: int | None = Field(default=None, ge=2)
    bursts: Bursts | None = None
    concurrency: Count | None = None
    trace: TraceReplay | None = None
    duration: Seconds | None = None
    requests: Count | None = None
    one_more_in: int = Field(default=0, ge=0)
    warmup: Seconds | None = None
    think: Seconds = 0.0
    mix: Mix | None = None

    @field_validator("name")
    @classmethod
    def _a_name(cls, name: str) -> str:
        return checked_name(name) if name else name

    @model_validator(mode="after")
    def _complete(self) -> Stage:
        if sum(load is not None for load in (self.rate, self.concurrency, self.trace)) != 1:
            raise ValueError(
                "a stage has either rate (open loop) or concurrency (closed loop), or a trace"
            )
        if (self.duration is None) == (self.requests is None):
            raise ValueError("a stage has either duration (such as 60s) or requests (such as 200)")
        for name in ("concurrency", "requests", "duration"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must be above zero")
        if self.one_more_in and self.requests is None:
            raise ValueError(
                "one_more_in belongs to requests: the first so many blocks send one more"
            )
        for name in ("burstiness", "rate_to", "bursts"):
            if getattr(self, name) is not None and self.rate is None:
                raise ValueError(
                    f"{name} belongs to a rate; a closed loop sends when an answer has come"
                )
        if (self.arrivals == "gamma") != (self.burstiness is not None):
            raise ValueError("arrivals: gamma and burstiness (such as 0.5) go together")
        if self.rate_to is not None and (self.bursts is not None or self.duration is None):
            raise ValueError("rate_to needs a duration to reach it in, and goes without bursts")
        if self.rate_to is not None and isinstance(self.rate, RelativeRate):
            raise ValueError("rate_to needs a rate in requests/s to start from, not a relative one")
        if self.steps is not None and self.rate_to is None:
            raise ValueError(
                "steps lead to a rate_to; "
                "for loads that are measured one by one write several stages"
            )
        if self.mix is not None and self.concurrency is not None:
            raise ValueError(
                "mix belongs to a rate or a trace: "
                "a slow variant would hold back the others of a closed loop"
            )
        return self

    @property
    def label(self) -> str:
        """The name, or "rate-2.5" / "concurrency-16" / "trace-FILE"."""
        if self.name:
            return self.name
        if self.trace:
            return name_from(f"trace-{self.trace.file.stem}")
        if isinstance(self.rate, RelativeRate):
            return f"rate-{self.rate.share:g}-of-{self.rate.of}"
        return f"rate-{self.rate:g}" if self.rate else f"concurrency-{self.concurrency}"

    @property
    def fixed_rate(self) -> float | None:
        """The rate in requests/s. None without one, or where it is not measured yet."""
        return None if isinstance(self.rate, RelativeRate) else self.rate

    @property
    def relative_rate(self) -> RelativeRate | None:
        """The rate if it is relative, else None."""
        return self.rate if isinstance(self.rate, RelativeRate) else None

    def at_rate(self, rate: float) -> Stage:
        """The same stage, under the same name, with its relative rate measured."""
        return self.model_copy(update={"rate": rate, "name": self.label})

    def in_block(self, block: int) -> Stage:
        """The stage for block `block` (from 1)."""
        if not self.one_more_in:
            return self
        assert self.requests is not None
        more = 1 if block <= self.one_more_in else 0
        return self.model_copy(update={"requests": self.requests + more, "one_more_in": 0})

    def pause(self, delay: float | None) -> float:
        """Seconds between an answer and the next turn: the recorded `delay`, or `think`."""
        if delay is None:
            return self.think
        return delay / (self.trace.speed if self.trace else 1.0)

    @property
    def uneven(self) -> str | None:
        """Why requests do not arrive at one rate throughout, or None."""
        if self.rate_to is not None and self.fixed_rate is not None:
            return f"its rate goes from {self.fixed_rate:g} to {self.rate_to:g} requests/s"
        if self.bursts is not None:
            return "its requests come in bursts"
        return "its requests come at the times of a recording" if self.trace is not None else None

    @property
    def open_loop(self) -> bool:
        """Whether a schedule decides when requests are sent."""
        return self.concurrency is None


class SearchConfig(Section):
    """A search for the highest rate that keeps the SLO, up to `max_rate` requests/s.

    `max_time`: the most seconds of load for one variant.
    """

    max_rate: Rate = Field(gt=0)
    max_time: Seconds = Field(default=900.0, gt=0)


class Sampling(Section):
    """Sent with every request, so no model folder's generation_config.json changes the answer."""

    elsewhere: ClassVar[Mapping[str, str]] = names_in_other_tools.SAMPLING

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: Count = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None


class Deadlines(Section):
    """The most seconds that each phase of a request may take. Each has its own failure class."""

    connect: Seconds = 5.0
    first: Seconds = 60.0
    stall: Seconds = 30.0
    total: Seconds = 300.0


_CLUSTER = re.compile(r"auto|(ray://)?([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}")


def _cluster(address: str) -> str:
    if not _CLUSTER.fullmatch(address):
        raise ValueError(
            f"{address!r} is no Ray cluster; write auto, HOST:PORT or ray://HOST:10001"
        )
    return address


class WorkloadConfig(Section):
    """The load: stages one after another, each in `blocks` rounds in which the variants take
    turns.

    `transport`: "socket" is plain HTTP with the kernel's receive stamps, "aiohttp" does TLS and
    proxies, "auto" depends on the URL. `workers`: processes that share the load; without it, as
    many as the calibration of the machine says the load needs. `dataset` None is the held-out data,
    written `eval`. `model`: whether loads that measure each variant's step times follow the stages.
    `search`: written as a stage, `stages: [{search: {max_rate: 50/s}}]`; a search follows them.
    `tokenizer`: the model that counts where the server does not, and whose tokens a
    dataset's lengths are in. `cache_salt`: whether each block gets a prefix cache of its own, or
    the word for its salt. `race`: whether a variant that is shown to break an objective, or to be
    worse than another, is loaded no more. None: only in an experiment that was made for it.
    `machines`: the Ray cluster whose nodes send the load; None: this machine does.
    """

    dataset: Dataset | None = None
    tokenizer: FileOrName | None = None
    cache_salt: bool | str | None = None
    model: bool = False
    api: Api = "chat"
    stages: tuple[Stage, ...] = Field(min_length=1)
    blocks: int = Field(default=10, ge=1)
    warmup: Seconds = 1.0
    seed: int = 0
    sampling: Sampling = Sampling()
    deadlines: Deadlines = Deadlines()
    max_in_flight: Count = 2048
    transport: Literal["auto", "socket", "aiohttp"] = "auto"
    workers: int | None = Field(default=None, ge=1)
    search: SearchConfig | None = None
    machines: Annotated[str, AfterValidator(_cluster)] | None = None
    race: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _search_is_no_stage(cls, value: Any) -> Any:
        """Takes a search out of the stages, since no verdict is about one of its loads."""
        stages = value.get("stages") if isinstance(value, dict) else None
        if not isinstance(stages, list | tuple):
            return value
        searches = [stage for stage in stages if isinstance(stage, dict) and "search" in stage]
        if not searches:
            return value
        if len(searches) > 1 or value.get("search") is not None:
            raise ValueError("stages: a workload has one search; leave the others out")
        if more := sorted(map(str, searches[0].keys() - {"search"})):
            raise ValueError(
                f"stages: {more[0]} does not go with search; write it in another stage"
            )
        others = [stage for stage in stages if stage is not searches[0]]
        if not others:
            raise ValueError(
                "stages: a search is judged by no verdict; write a load beside it, such as "
                "{rate: 2, requests: 200}, or use dyno search"
            )
        return {**value, "stages": others, "search": searches[0]["search"]}

    @field_validator("dataset", mode="before")
    @classmethod
    def _held_out(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "eval":
            raise ValueError(_DATASETS)
        return None if value == "eval" else value

    @model_validator(mode="after")
    def _somebody_thinks(self) -> WorkloadConfig:
        for stage in self.stages:
            if stage.think and stage.open_loop and not (self.dataset and self.dataset.has_turns):
                raise ValueError(
                    "think belongs to concurrency or to sessions of several turns; "
                    "an open loop waits for nobody"
                )
        return self

    @model_validator(mode="after")
    def _prompts_can_be_counted(self) -> WorkloadConfig:
        for stage in self.stages:
            if stage.relative_rate and stage.duration is not None and self.dataset is not None:
                raise ValueError(
                    f"{stage.label}: how many prompts a duration takes at a relative rate is not "
                    "known before it is measured; write requests instead of duration"
                )
        return self

    @model_validator(mode="after")
    def _times_and_lengths_belong_together(self) -> WorkloadConfig:
        lengths = self.dataset.trace if self.dataset else None
        for stage in self.stages:
            if (
                lengths
                and stage.trace
                and stage.trace.file == lengths.file
                and stage.trace.part != lengths.part
            ):
                raise ValueError(
                    f"{stage.label}: its times and the dataset's prompts are other parts of one "
                    "recording; write the same offset and length in workload.dataset.trace"
                )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> WorkloadConfig:
        labels = [stage.label for stage in self.stages]
        if len(set(labels)) < len(labels):
            twice = ", ".join(sorted({label for label in labels if labels.count(label) > 1}))
            raise ValueError(f"two stages have the same name: {twice}; give each a name")
        return self
