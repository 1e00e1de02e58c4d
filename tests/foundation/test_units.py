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
        (units.parse_count, 2**63 - 1, 2**63 - 1),
        (units.parse_count, "1,000", 1000),
        (units.parse_count, "1.1M", 1_100_000),
        (units.parse_count, "5_000", 5000),
        (units.parse_seconds, "1,234,567ms", 1234.567),
        (units.parse_seconds, "1,234.5ms", 1.2345),
        (units.parse_seconds, "1.000ms", 0.001),
        (units.parse_share, ".5", 0.5),
        (units.parse_change, "+20%", 0.2),
        (units.parse_factor, "1.1x", 1.1),
        (units.parse_factor, "+5 %", 1.05),
        (units.parse_factor, "-5%", 0.95),
        (units.parse_number, "0.5", 0.5),
        (units.parse_dollars, "$5,000", 5000.0),
        (units.parse_dollars, "$1,234,567.89", 1_234_567.89),
        (units.parse_dollars, "5_000", 5000.0),
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
def test_refuses_and_says_what_to_write(
    parse: Callable[[object], float], text: object, says: str
) -> None:
    with pytest.raises(ValueError, match="write") as error:
        parse(text)
    assert says in str(error.value)


PARSERS = (
    units.parse_seconds,
    units.parse_share,
    units.parse_change,
    units.parse_factor,
    units.parse_number,
    units.parse_count,
    units.parse_dollars,
    units.parse_rate,
    units.parse_bytes,
)


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (units.parse_seconds, "0,5s", "decimal point"),
        (units.parse_seconds, "1,000ms", "may mean 1.000 or 1000"),
        (units.parse_seconds, "5,ms", "decimal point"),
        (units.parse_seconds, "1,,5s", "decimal point"),
        (units.parse_seconds, "5__0ms", "500ms"),
        (units.parse_seconds, "1_ms", "500ms"),
        (units.parse_seconds, "٥ms", "500ms"),
        (units.parse_seconds, "０ms", "500ms"),
        (units.parse_seconds, "1e400s", "size"),
        (units.parse_seconds, "1e-400s", "size"),
        (units.parse_seconds, "nan", "500ms"),
        (units.parse_seconds, "+5ms", "without a sign"),
        (units.parse_seconds, "5M", "500ms"),
        (units.parse_seconds, "5S", "500ms"),
        (units.parse_share, "0,1%", "decimal point"),
        (units.parse_share, "0,85", "decimal point"),
        (units.parse_share, 1, "100% or 1%"),
        (units.parse_share, "1.0", "100% or 1%"),
        (units.parse_share, "-1%", "zero or more"),
        (units.parse_change, 20, "20% or 2000%"),
        (units.parse_change, "1.5", "1.5"),
        (units.parse_change, 1, "1% or 100%"),
        (units.parse_change, "1,5%", "decimal point"),
        (units.parse_change, "-5%", "zero or more"),
        (units.parse_factor, "1,1x", "decimal point"),
        (units.parse_factor, "-100%", "more than nothing"),
        (units.parse_factor, "-200%", "more than nothing"),
        (units.parse_factor, "0x", "more than nothing"),
        (units.parse_factor, "-1x", "1.1x"),
        (units.parse_factor, "5%", "1.1x"),
        (units.parse_dollars, "$2,50", "decimal point"),
        (units.parse_dollars, "$0,500", "decimal point"),
        (units.parse_dollars, "5,000", "may mean 5.000 or 5000"),
        (units.parse_dollars, "$1,500k", "may mean 1.500 or 1500"),
        (units.parse_dollars, "$5m", "$5000"),
        (units.parse_dollars, "$-5", "zero or more"),
        (units.parse_dollars, float("inf"), "dollars"),
        (units.parse_count, "1,5k", "decimal point"),
        (units.parse_count, "1,500k", "may mean 1.500 or 1500"),
        (units.parse_count, "1e400", "at most"),
        (units.parse_count, 2**63, "at most 9223372036854775807"),
        (units.parse_count, "1e9999999999", "200"),
        (units.parse_rate, "2,5/s", "decimal point"),
        (units.parse_bytes, "1,5GiB", "decimal point"),
        (units.parse_number, "nan", "64"),
    ],
)
def test_what_may_mean_two_things_or_none_is_refused(
    parse: Callable[[object], float], text: object, says: str
) -> None:
    with pytest.raises(ValueError, match="write") as error:
        parse(text)
    assert says in str(error.value)


@given(st.floats(min_value=0, max_value=1e300))
def test_a_duration_reads_back_exactly(seconds: float) -> None:
    assert units.parse_seconds(units.format_seconds(seconds)) == seconds


@given(st.floats(min_value=0, max_value=1), st.floats(min_value=0, max_value=1e300))
def test_shares_and_changes_read_back_exactly(share: float, change: float) -> None:
    assert units.parse_share(units.format_share(share)) == share
    assert units.parse_change(units.format_share(change)) == change


@given(
    st.sampled_from(["{}s", "{}%", "${}", "{}", "{}/s", "{}x", "{}k"]),
    st.integers(1, 9999),
    st.from_regex(r"\A[0-9]{1,4}\Z"),
)
def test_a_decimal_comma_is_never_read_as_another_number(
    wording: str, whole: int, part: str
) -> None:
    """A comma is read as groups of three digits or refused; a point is a decimal point."""
    for parse in PARSERS:
        try:
            value = parse(wording.format(f"{whole},{part}"))
        except ValueError:
            continue
        assert (len(part), whole <= 999, "k" in wording) == (3, True, False)
        assert parse in (units.parse_count, units.parse_dollars)
        assert value == int(f"{whole}{part}")


@given(st.text(max_size=12) | st.from_regex(r"\A[+-]?[0-9.,_eE]{1,12}(ms|s|%|x|k|M|/s|GiB)?\Z"))
def test_any_text_is_a_finite_number_or_a_value_error(text: str) -> None:
    for parse in PARSERS:
        try:
            assert 0 <= parse(text) < float("inf")
        except ValueError:
            continue
