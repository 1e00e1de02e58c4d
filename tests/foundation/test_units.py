"""Quantities as people write them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation import units


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.parse_seconds, "500ms", 0.5),
        (units.parse_seconds, "2s", 2.0),
        (units.parse_seconds, "1.5 m", 90.0),
        (units.parse_seconds, "250us", 250e-6),
        (units.parse_share, "0.1%", 0.001),
        (units.parse_share, 0.85, 0.85),
        (units.parse_share, "100%", 1.0),
        (units.parse_change, "150%", 1.5),
        (units.parse_count, "10M", 10_000_000),
        (units.parse_count, "5k", 5000),
        (units.parse_count, 200, 200),
        (units.parse_count, "1,000", 1000),
        (units.parse_dollars, "$5000", 5000.0),
        (units.parse_dollars, "$2.5", 2.5),
        (units.parse_dollars, "$20k", 20_000.0),
        (units.parse_dollars, 3, 3.0),
        (units.parse_rate, "120/s", 120.0),
        (units.parse_rate, "600/min", 10.0),
        (units.parse_rate, 2.5, 2.5),
        (units.parse_bytes, "2GiB", 2 * 1024**3),
        (units.parse_bytes, "1.5MB", 1_500_000),
    ],
)
def test_reads(parse: Callable[[object], float], text: object, value: float) -> None:
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (units.parse_seconds, 400, "500ms"),
        (units.parse_seconds, "2 sec", "500ms"),
        (units.parse_seconds, "-1s", "zero or more"),
        (units.parse_seconds, True, "duration"),
        (units.parse_share, "120%", "between 0 and 1"),
        (units.parse_share, "5 percent", "85%"),
        (units.parse_count, "1.5", "whole number"),
        (units.parse_count, "10X", "10M"),
        (units.parse_dollars, "5000 EUR", "$5000"),
        (units.parse_dollars, True, "dollars"),
        (units.parse_rate, 0, "above zero"),
        (units.parse_rate, "5 rps", "120/s"),
        (units.parse_bytes, "2 gigs", "2GiB"),
    ],
)
def test_refuses_and_says_what_to_write(parse: Callable[[object], float], text: object, says: str) -> None:
    with pytest.raises(ValueError, match="write") as error:
        parse(text)
    assert says in str(error.value)


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_duration_reads_back(seconds: float) -> None:
    assert units.parse_seconds(units.format_seconds(seconds)) == pytest.approx(seconds, rel=1e-9)


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    for parse in (
        units.parse_seconds,
        units.parse_share,
        units.parse_count,
        units.parse_dollars,
        units.parse_rate,
        units.parse_bytes,
    ):
        try:
            assert parse(text) >= 0
        except ValueError:
            continue
