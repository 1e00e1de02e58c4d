"""Texts of exact length, counted by hand for a byte tokenizer, by other rules for one of words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import BadInput
from foundation.models.tokenizer import ModelTokenizer
from loadgen.lengths import Lengths
from loadgen.prompts.exact_length import Correction, Draft, Wording
from tests.tiny_model import write_tokenizer, write_word_tokenizer


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    folder = tmp_path_factory.mktemp("bytes")
    write_tokenizer(folder)
    return ModelTokenizer(folder)


@pytest.fixture(scope="module")
def wordwise(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    folder = tmp_path_factory.mktemp("words")
    write_word_tokenizer(folder)
    return ModelTokenizer(folder)


def by_hand(text: str) -> int:
    """Tokens of a user message in the tiny model's template: three markers, and a token a byte."""
    return 3 + len("user\n") + len(text.encode()) + len("\n") + len("assistant\n")


def test_a_chat_is_counted_as_its_template_words_it(bytewise: ModelTokenizer) -> None:
    messages = [{"role": "user", "content": "héllo"}]
    assert bytewise.prompt_counts([messages], "chat") == [by_hand("héllo")]
    assert bytewise.prompt_counts([messages, [*messages, *messages]], "completions") == [
        6,
        6 + 2 + 6,
    ]


def test_a_chat_without_a_template_can_not_be_counted(tmp_path: Path) -> None:
    write_word_tokenizer(tmp_path)
    for file in ("tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / file).unlink(missing_ok=True)
    silent, messages = ModelTokenizer(tmp_path), [{"role": "user", "content": "one two"}]
    with pytest.raises(BadInput, match=r"no chat template; write workload\.api: completions"):
        silent.prompt_counts([messages], "chat")
    assert silent.prompt_counts([messages], "completions") == [2]


@pytest.mark.parametrize("kind", ["bytewise", "wordwise"])
@pytest.mark.parametrize("api", ["chat", "completions"])
def test_prompts_are_exactly_as_long_as_asked(
    kind: str, api: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    wording = Wording(tokenizer, api, [0])
    drafts = [
        Draft(tokens, (1, tokens), (((0,), tokens // 2),))
        for tokens in range(wording.shortest, wording.shortest + 60)
    ]
    texts = wording.prompts(drafts)
    prompts = [[{"role": "user", "content": text}] for text in texts]
    assert tokenizer.prompt_counts(prompts, api) == [draft.tokens for draft in drafts]
    if kind == "bytewise" and api == "chat":
        assert [by_hand(text) for text in texts] == [draft.tokens for draft in drafts]
    assert len(set(texts)) == len(texts)


def test_prompts_with_a_beginning_in_common_begin_with_its_words_and_go_on_differently(
    wordwise: ModelTokenizer,
) -> None:
    one, other = Wording(wordwise, "chat", [0]).prompts(
        [Draft(60, (1, i), (((0,), 30),)) for i in range(2)]
    )
    assert one.split()[:30] == other.split()[:30]
    assert one.split()[30] != other.split()[30] or one.split()[31:] != other.split()[31:]


def test_a_correction_makes_the_server_count_what_was_asked(wordwise: ModelTokenizer) -> None:
    [text] = Wording(wordwise, "completions", [0], Correction(extra=12)).prompts([Draft(100, (1,))])
    assert len(text.split()) == 88
    [text] = Wording(None, "chat", [0], Correction(extra=10, scale=1.5)).prompts([Draft(100, (1,))])
    assert len(text.split()) == 60


def test_another_seed_draws_other_words(wordwise: ModelTokenizer) -> None:
    drawn = {
        Wording(wordwise, "chat", seed).prompts([Draft(80, (1,))])[0]
        for seed in ([0, 1], [0, 1], [0, 2], [1, 1])
    }
    assert len(drawn) == 3


def test_a_folder_without_a_tokenizer_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        ModelTokenizer(tmp_path)


@given(
    text=st.one_of(
        st.integers(1, 4000).map(str),
        st.tuples(st.integers(1, 500), st.integers(0, 500)).map(
            lambda p: f"uniform:{p[0]}:{p[0] + p[1]}"
        ),
        st.tuples(st.integers(20, 900), st.floats(0, 50)).map(
            lambda p: f"normal:{p[0]}:{p[1]:.3f}"
        ),
        st.tuples(st.integers(20, 900), st.floats(0, 1)).map(
            lambda p: f"lognormal:{p[0]}:{p[1]:.3f}:10:2k"
        ),
    ),
    seed=st.integers(0, 9),
)
def test_lengths_read_back_and_keep_their_bounds(text: str, seed: int) -> None:
    lengths = Lengths.parse(text)
    assert Lengths.parse(str(lengths)) == lengths
    drawn = lengths.draw(np.random.default_rng(seed), 50)
    assert drawn == lengths.draw(np.random.default_rng(seed), 50)
    low, high = {
        "uniform": (lengths.first, lengths.second),
        "fixed": (lengths.first, lengths.first),
    }.get(lengths.kind, (lengths.least, lengths.most or float("inf")))
    assert low <= min(drawn) <= max(drawn) <= high


def test_lengths_have_the_distribution_named() -> None:
    rng = np.random.default_rng(3)
    lognormal = np.array(Lengths.parse("lognormal:500:0.4").draw(rng, 20_000))
    assert np.median(lognormal) == pytest.approx(500, rel=0.02)
    assert np.log(lognormal).std() == pytest.approx(0.4, rel=0.03)
    normal = np.array(Lengths.parse("normal:500:40").draw(rng, 20_000))
    assert (normal.mean(), normal.std()) == (
        pytest.approx(500, rel=0.01),
        pytest.approx(40, rel=0.03),
    )


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-4",
        "many",
        "uniform:9:3",
        "normal:5",
        "lognormal:50:0.5:60:90",
        "gauss:5:1",
        "normal:5:-1",
    ],
)
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|lengths|least"):
        Lengths.parse(text)
