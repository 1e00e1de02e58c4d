"""The flags --share, --start-at and --gap: what they mean, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dyno.cli import app
from dyno.experiment.from_flags.load_part import LoadPart, load_part
from foundation.errors import BadInput
from loadgen.schedule.arrivals import WorkerShare, length_ns
from tests.dyno.test_load_flags import URL, made

START = datetime(2026, 12, 1, 10, tzinfo=UTC)
START_NS = 1_796_119_200_000_000_000  # date -u -d 2026-12-01T10:00:00Z +%s
PART = LoadPart(3, 8, START, 10.0)


@pytest.mark.parametrize(
    "text", ["2026-12-01T10:00:00Z", "2026-12-01T11:00:00+01:00", "2026-12-01 10:00:00+00:00"]
)
def test_a_part_and_its_start(text: str) -> None:
    part = load_part("3/8", text, None)
    assert part == PART
    assert (part.start_ns, part.share, part.words) == (START_NS, WorkerShare(2, 8), "part 3 of 8")
    assert load_part(None, None, None) is None


@pytest.mark.parametrize(
    ("share", "start_at", "gap", "says"),
    [
        ("3/8", None, None, "--share goes with --start-at: write a time of day with its zone"),
        (None, "2026-12-01T10:00:00Z", None, "--start-at goes with --share"),
        (None, None, "10s", "--gap goes with --share"),
        ("0/8", "2026-12-01T10:00:00Z", None, "--share: write K/N with K from 1 to N"),
        ("9/8", "2026-12-01T10:00:00Z", None, "--share: write K/N with K from 1 to N"),
        ("three", "2026-12-01T10:00:00Z", None, "such as 3/8, not 'three'"),
        ("3/8", "tomorrow", None, "--start-at: write a time of day with its zone"),
        ("3/8", "2026-12-01T10:00:00", None, "2026-12-01T10:00:00 names no zone"),
        ("3/8", "0001-01-01T00:00:00+23:00", None, "--start-at: write a time of day"),
        ("3/8", "2026-12-01T10:00:00Z", "10", "--gap: write a duration with its unit"),
    ],
)
def test_flags_that_say_no_part(
    share: str | None, start_at: str | None, gap: str | None, says: str
) -> None:
    with pytest.raises(BadInput) as error:
        load_part(share, start_at, gap)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("load", "now", "says"),
    [
        ({"concurrencies": [8]}, 60, "a closed loop of --requests ends when its answers have come"),
        ({"concurrencies": [4], "duration": "60s"}, 60, "8 hosts can't share 4 requests in flight"),
        ({"rates": ["10"]}, 4, "2026-12-01T10:00:00Z is in 4 s, and a host needs 10 s or more"),
        ({"rates": ["10"]}, -90, "2026-12-01T10:00:00Z was 90 s ago"),
    ],
)
def test_loads_that_hosts_cannot_share(load: dict[str, Any], now: int, says: str) -> None:
    """`now`: seconds left until the start."""
    with pytest.raises(BadInput) as error:
        PART.check(made(**load), START_NS - now * 10**9)
    assert says in str(error.value)


def test_loads_that_hosts_can_share() -> None:
    for load in ({"rates": ["10"]}, {"concurrencies": [8], "duration": "60s"}):
        PART.check(made(**load), START_NS - 60 * 10**9)


def test_blocks_begin_after_those_before_them_and_a_gap() -> None:
    lengths = [5_000_000_000, 6_000_000_000, 7_000_000_000]
    after = [at - START_NS for at in PART.starts_ns(lengths)]
    assert after == [0, 15_000_000_000, 31_000_000_000]


def test_the_length_of_a_block_is_that_of_its_warm_up_and_window() -> None:
    for load in ({"rates": ["10"]}, {"concurrencies": [8]}):
        stage = made(duration="20s", blocks=4, **load).workload.stages[0]
        assert length_ns(stage, 0, 1, 1.0) == 6_000_000_000
    assert length_ns(made(concurrencies=[8]).workload.stages[0], 0, 1, 1.0) is None


def test_all_hosts_salt_their_prompts_alike() -> None:
    """A random salt for each host would keep a prefix cache from knowing the others' prompts."""
    synthetic = made(asked={"synthetic": True, "input_tokens": "16"}, rates=["10"])
    salts = {PART.applied(synthetic).workload.cache_salt for _ in range(2)}
    later = LoadPart(3, 8, START + timedelta(seconds=1), 10.0).applied(synthetic)
    assert len(salts) == 1 and later.workload.cache_salt not in salts
    assert PART.applied(synthetic).salted() == PART.applied(synthetic)
    plain = made(rates=["10"])
    assert PART.applied(plain) is plain


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--json"], "dyno merge PART... --json"),
        (["--traces", "4318"], "--traces"),
        ([], "--start-at: 2020-01-01T00:00:00Z was"),
    ],
)
def test_a_part_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], says: str
) -> None:
    monkeypatch.setenv("DYNO_SHARE", "1/2")
    load = ["load", "--url", URL, "--model", "m", "--rate", "10", "--prompt", "Q"]
    place = ["--start-at", "2020-01-01T00:00:00Z", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*load, *place, *more])
    assert isinstance(result.exception, BadInput) and says in str(result.exception)
    assert not any(tmp_path.iterdir())
