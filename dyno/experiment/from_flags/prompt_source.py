"""The source of the prompts of `dyno load`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dyno.experiment.from_flags.values import seconds_of
from foundation.errors import BadInput
from loadgen.dataset_config import Recording


@dataclass(frozen=True, kw_only=True)
class PromptSource:
    """The flags of `dyno load` about prompts.

    Exactly one of `prompt`, `data`, `synthetic`, `sharegpt` and `trace` is the source. `ignore`
    goes with `data`; `offset` and `length` go with `trace`; `turns` goes with `sharegpt` and
    `synthetic`; the others go with `synthetic`.
    """

    prompt: str | None = None
    data: Path | None = None
    ignore: Sequence[str] = ()
    synthetic: bool = False
    sharegpt: Path | None = None
    trace: Path | None = None
    input_tokens: str | None = None
    output_tokens: str = "128"
    cache_hit: str | None = None
    prefixes: int | None = None
    turns: str | None = None
    offset: str | None = None
    length: str | None = None

    def check(self) -> None:
        """Raises BadInput for flags that do not go together."""
        sources = (self.prompt, self.data, self.synthetic or None, self.sharegpt, self.trace)
        if sum(source is not None for source in sources) != 1:
            raise BadInput(
                "write one of --prompt TEXT, --data FILE.jsonl, --synthetic, --sharegpt FILE, "
                "--trace FILE"
            )
        if self.synthetic and self.input_tokens is None:
            raise BadInput("--synthetic: write --input-tokens, such as 512 or lognormal:512:0.5")
        if not self.synthetic:
            _refuse("--synthetic", "--input-tokens", self.input_tokens)
            _refuse("--synthetic", "--cache-hit", self.cache_hit)
            _refuse("--synthetic", "--prefixes", self.prefixes)
        if self.trace is None:
            _refuse("--trace", "--offset", self.offset)
            _refuse("--trace", "--length", self.length)
        if self.ignore and self.data is None:
            raise BadInput("--ignore goes with --data")
        if self.turns is not None and not self.synthetic and self.sharegpt is None:
            raise BadInput("--turns goes with --synthetic or --sharegpt")
        if not self.synthetic and not self.output_tokens.isdigit():
            raise BadInput(
                "--output-tokens: write a whole number; distributions go with --synthetic"
            )

    def data_section(self) -> dict[str, object]:
        """The section `data`."""
        if self.prompt is not None:
            return {"prompt": self.prompt}
        if self.data is not None:
            return {"eval": str(self.data), "ignore": list(self.ignore)}
        return {}

    def dataset(self) -> dict[str, dict[str, object]] | None:
        """The section `workload.dataset`; None if the section data names the prompts."""
        if self.synthetic:
            settings = {
                "input_tokens": self.input_tokens,
                "output_tokens": self.output_tokens,
                "cache_hit": self.cache_hit,
                "prefixes": self.prefixes,
                "turns": self.turns,
            }
            return {"synthetic": {key: v for key, v in settings.items() if v is not None}}
        if self.sharegpt is not None:
            turns = {"turns": self.turns} if self.turns else {}
            return {"sharegpt": {"file": str(self.sharegpt), **turns}}
        if (recording := self.recording) is not None:
            return {"trace": recording.model_dump(mode="json", exclude_defaults=True)}
        return None

    @property
    def recording(self) -> Recording | None:
        """The trace, or the part of it that `offset` and `length` name."""
        if self.trace is None:
            return None
        offset = seconds_of("--offset", self.offset) if self.offset else 0.0
        length = seconds_of("--length", self.length) if self.length else None
        if length == 0:
            raise BadInput(f"--length: {self.length} is no part of a recording; write such as 10m")
        return Recording.model_construct(file=self.trace, offset=offset, length=length)


def _refuse(partner: str, flag: str, value: object) -> None:
    """Raises BadInput for a flag that was given without its partner."""
    if value is not None:
        raise BadInput(f"{flag} goes with {partner}")
