"""Numbers as a person reads them."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation import format as fmt
from foundation.format import argument, beside, change, limit_text, points, significant, written


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (412, "ms", "412 ms"),
        (1930, "ms", "1.93 s"),
        (8.25, "ms", "8.25 ms"),
        (0, "ms", "0 ms"),
        (-120, "ms", "−120 ms"),
        (0.042, "$", "$0.042"),
        (0.00421, "$", "$0.00421"),
        (12.4, "$", "$12.40"),
        (500, "$", "$500"),
        (5123.4, "$", "$5,123"),
        (-0.5, "$", "−$0.50"),
        (0.868, "share", "86.8 %"),
        (0.0012, "share", "0.12 %"),
        (0, "share", "0 %"),
        (1, "share", "100 %"),
        (269e6, "bytes", "269 MB"),
        (1.07e9, "bytes", "1.07 GB"),
        (4.42, "requests/s", "4.42 requests/s"),
        (1204.3, "tokens", "1,204 tokens"),
        (None, "ms", "—"),
    ],
)
def test_a_quantity_has_its_unit_and_three_digits(
    value: float | None, unit: str, text: str
) -> None:
    assert fmt.quantity(value, unit) == text


def test_a_share_short_of_all_never_reads_as_all() -> None:
    assert fmt.percent(0.9996) != "100.0 %"
    assert float(fmt.percent(0.9996).split()[0]) < 100


@pytest.mark.parametrize(
    ("relative", "text"),
    [(0.12, "+12 %"), (-0.031, "−3.1 %"), (4.19, "+419 %"), (0, "0.0 %"), (-0.0001, "0.0 %")],
)
def test_a_change_has_its_sign(relative: float, text: str) -> None:
    assert fmt.change(relative) == text


def test_shares_differ_in_points() -> None:
    assert fmt.points(-0.031) == "−3.1 points"
    assert fmt.difference(0.04, "share") == "+4.0 points"
    assert fmt.difference(-120, "ms") == "−120 ms"


def test_an_interval_says_a_shared_unit_once() -> None:
    assert fmt.interval(398, 431, "ms") == "398 to 431 ms"
    assert fmt.interval(950, 1030, "ms") == "950 ms to 1.03 s"
    assert fmt.interval(0.4, 0.6, "$") == "$0.40 to $0.60"
    assert fmt.interval(None, None, "ms") == ""


def test_one_scale_a_row() -> None:
    size = fmt.scale([269e6, 141e6, None], "bytes")
    assert (size.unit, size(269e6), size(141e6), size(None)) == ("MB", "269", "141", "—")
    cheap = fmt.scale([0.0000192, 0.0000539], "$")
    assert (cheap.unit, cheap(0.0000192)) == ("$ per 1,000", "0.0192")
    assert fmt.scale([], "ms").unit == "ms"


@given(
    st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=8),
    st.sampled_from(["ms", "$", "share", "tokens", "bytes", "requests/s"]),
)
def test_a_scale_keeps_two_digits_of_the_largest_value(values: list[float], unit: str) -> None:
    scale = fmt.scale(values, unit)
    read = float(scale(max(values)).replace(",", ""))
    assert read == pytest.approx(max(values) * scale.factor, rel=0.06)


@given(st.floats(-1e9, 1e9, allow_nan=False), st.sampled_from(["ms", "$", "share", "tokens"]))
def test_minus_is_a_minus_sign_and_zero_has_none(value: float, unit: str) -> None:
    text = fmt.quantity(value, unit)
    assert "-" not in text
    assert ("−" in text) == (value < 0 and bool(re.search("[1-9]", text)))


WRITERS = {
    "ms": partial(written, "ms"),
    "$": partial(written, "$"),
    "share": partial(written, "share"),
    "change": change,
    "points": points,
}


@pytest.mark.parametrize(
    ("unit", "value", "limit", "texts"),
    [
        ("$", 1.79, 1.5, ("$1.79", "$1.50")),
        ("$", 1500.2, 1500, ("$1,500.20", "$1,500")),
        ("ms", 999.96, 1000, ("999.96 ms", "1.00 s")),
        ("ms", 400.3, 400, ("400.3 ms", "400 ms")),
        ("share", 0.0009999, 0.001, ("0.09999 %", "0.10 %")),
        ("change", 0.2004, 0.2, ("+20.04 %", "+20 %")),
        ("points", -0.0101, -0.01, ("−1.01 points", "−1.0 points")),
        ("ms", 304.9, 304.72834912, ("305 ms", "304.7 ms")),
    ],
)
def test_a_value_is_shown_on_its_own_side_of_its_limit(
    unit: str, value: float, limit: float, texts: tuple[str, str]
) -> None:
    [said], bound = beside([value], limit, WRITERS[unit])
    assert (said, bound) == texts


@given(
    unit=st.sampled_from(list(WRITERS)),
    limit=st.floats(1e-2, 9e3),
    off=st.floats(1e-7, 3) | st.floats(-0.999, -1e-7),
    whole=st.booleans(),
)
def test_no_rounding_puts_a_value_past_its_limit(
    unit: str, limit: float, off: float, whole: bool
) -> None:
    """The numbers are read back from the texts by arithmetic of their own."""
    limit = round(limit, 3) + 0.001 if whole else limit
    limit, value = (x / 1e4 if unit not in ("ms", "$") else x for x in (limit, limit * (1 + off)))
    [said], bound = beside([value], limit, WRITERS[unit])

    def number(text: str) -> Decimal:
        digits = Decimal(text.translate({ord(c): None for c in ",+−$%msanpoit "}))
        return digits * 1000 if text.endswith(" s") else digits

    assert (number(said) > number(bound)) == (value > limit)
    assert number(said) != number(bound)


def test_a_limit_that_somebody_wrote_is_not_rounded() -> None:
    assert limit_text(1.5, WRITERS["$"]) == "$1.50"
    assert limit_text(1234.56, WRITERS["$"]) == "$1,234.56"
    assert limit_text(0.8567, WRITERS["share"]) == "85.67 %"
    assert limit_text(0.155, change) == "+15.5 %"


def test_the_words_of_a_server_steer_no_terminal() -> None:
    assert fmt.shortened("gone\n\x1b[2J \u202eodd") == "gone \ufffd[2J \ufffdodd"
    assert fmt.shortened("x" * 300) == "x" * 200 + "..."


def test_a_rate_of_a_fast_server_has_no_exponent() -> None:
    texts = [fmt.rate_text(rate) for rate in (0.25, 4.418, 156.3, 999.4, 1200.0, 12_345.6)]
    assert texts == ["0.25", "4.42", "156", "999", "1,200", "12,346"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.999, "10.0"), (0.009999999, "0.0100"), (99.96, "100"), (9.994, "9.99"), (0.01, "0.0100")],
)
def test_a_number_that_is_rounded_up_gains_no_digit(value: float, text: str) -> None:
    assert significant(value) == text


def test_a_path_in_a_command_to_copy_is_quoted_where_a_shell_would_split_it() -> None:
    assert argument("runs/news-topics") == "runs/news-topics"
    assert argument("my runs/a") == "'my runs/a'"
