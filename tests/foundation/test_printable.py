"""What others wrote can't steer a terminal or a CI, and reads as it did."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.printable import json_printable, printable, visible

# Texts of which most characters are worth a thought.
ODD = st.text(
    st.one_of(
        st.sampled_from("\x1b\x9b\x90\x07[]m;:#\\\n\r\t\u202e\u200b\u2028\ud800 ab"),
        st.characters(),
    )
)

TURNING = ("RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI")


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("\x1b[31mRED\x1b[0m", "RED"),
        ("\x1b]0;PWNED\x07ok", "ok"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x90q#0\x9cok", "ok"),
        ("\x1bcreset \x1b(B", "reset "),
        ("\x1b]0;never ends", "\ufffd]0;never ends"),
        ("a\r\nb\tc\n", "a\nb\tc\n"),
        ("over\rwritten", "over\ufffdwritten"),
        ("user\u202egnp.exe", "user\ufffdgnp.exe"),
        ("pass\u200bword\ufeff", "password"),
        ("one\u2028two\x85three", "one\ufffdtwo\ufffdthree"),
        ("grün 日本 ≈ 5 µs\u00a0e\u0301", "grün 日本 ≈ 5 µs\u00a0e\u0301"),
    ],
)
def test_what_steers_is_gone_and_the_rest_stays(text: str, output: str) -> None:
    assert visible(text) == output


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("::error::no", ": :error::no"),
        ("  ::add-mask::x", "  : :add-mask::x"),
        ("ok\n\x1b[0m::stop-commands::x", "ok\n: :stop-commands::x"),
        (":\u200b:error::x", ": :error::x"),
        ("a ##[group]b", "a # #[group]b"),
        ("##vso[task.complete]", "# #vso[task.complete]"),
        ("##teamcity[x]", "# #teamcity[x]"),
        ("std::vector ## heading", "std::vector ## heading"),
    ],
)
def test_a_ci_takes_nothing_for_an_order(text: str, output: str) -> None:
    assert printable(text) == output


@given(ODD)
def test_no_control_character_is_left(text: str) -> None:
    output = printable(text)
    steering = [
        letter
        for letter in output
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") and letter not in "\n\t"
    ]
    turning = [letter for letter in output if unicodedata.bidirectional(letter) in TURNING]
    assert steering == turning == []
    assert not re.search(r"^\s*::", output, re.MULTILINE) and "##[" not in output
    assert printable(output) == output
    output.encode()


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))))
def test_what_a_person_wrote_stays(text: str) -> None:
    assert visible(text) == text


@given(st.recursive(ODD, lambda inner: st.lists(inner) | st.dictionaries(ODD, inner), max_leaves=8))
def test_json_keeps_its_value(value: object) -> None:
    output = json_printable(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(output) == value
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]|##\\[", output)
