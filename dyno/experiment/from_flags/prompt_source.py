"""Where the prompts of `dyno load` come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyno.experiment.from_flags.values import seconds_of
from foundation.errors import BadInput
from loadgen.config import Recording


@dataclass(frozen=True, kw_only=True)
class PromptSource:
    """What `dyno load` asks: exactly one of the first five. The others go with `synthetic`, `turns` with `sharegpt` too,
    `ignore` with `data`.
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
        """Raises BadInput for what does not go together."""
        ways = [
            self.prompt is not None,
            self.data is not None,
            self.synthetic,
            self.sharegpt is not None,
            self.trace is not None,
        ]
        if sum(ways) != 1:
            raise BadInput(
                "write one of --prompt TEXT, --data FILE.jsonl, --synthetic, --sharegpt FILE, --trace FILE"
            )
        if self.synthetic and self.input_tokens is None:
            raise BadInput("--synthetic: write --input-tokens, such as 512 or lognormal:512:0.5")
        given = {
            "--input-tokens": self.input_tokens,
            "--cache-hit": self.cache_hit,
            "--prefixes": self.prefixes,
        }
        for flag, value in given.items() if not self.synthetic else ():
            if value is not None:
                raise BadInput(f"{flag} goes with --synthetic")
        for flag, value in (
            {"--offset": self.offset, "--length": self.length}.items() if self.trace is None else ()
        ):
            if value is not None:
                raise BadInput(f"{flag} goes with --trace")
        if self.ignore and self.data is None:
            raise BadInput("--ignore goes with --data")
        if self.turns is not None and not self.synthetic and self.sharegpt is None:
            raise BadInput("--turns goes with --synthetic or --sharegpt")
        if not self.synthetic and not self.output_tokens.isdigit():
            raise BadInput(
                "--output-tokens: write a whole number; distributions go with --synthetic"
            )

    def data_section(self) -> dict[str, Any]:
        if self.prompt is not None:
            return {"prompt": self.prompt}
        return (
            {"eval": str(self.data), "ignore": list(self.ignore)} if self.data is not None else {}
        )

    def dataset(self) -> dict[str, Any] | None:
        """`workload.dataset`."""
        if self.synthetic:
            more = {"cache_hit": self.cache_hit, "prefixes": self.prefixes, "turns": self.turns}
            given = {key: value for key, value in more.items() if value is not None}
            return {
                "synthetic": {
                    "input_tokens": self.input_tokens,
                    "output_tokens": self.output_tokens,
                    **given,
                }
            }
        if self.sharegpt is not None:
            return {
                "sharegpt": {
                    "file": str(self.sharegpt),
                    **({"turns": self.turns} if self.turns else {}),
                }
            }
        recording = self.recording
        return (
            None
            if recording is None
            else {"trace": recording.model_dump(mode="json", exclude_defaults=True)}
        )

    @property
    def recording(self) -> Recording | None:
        """The part of a trace that is asked."""
        if self.trace is None:
            return None
        offset = seconds_of("--offset", self.offset) if self.offset else 0.0
        length = seconds_of("--length", self.length) if self.length else None
        if length == 0:
            raise BadInput(f"--length: {self.length} is no part of a recording; write such as 10m")
        return Recording.model_construct(file=self.trace, offset=offset, length=length)
