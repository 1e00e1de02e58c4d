"""Compressed answers are the strings that were put in, however they are taken."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foundation.run.texts import Texts

lots = st.lists(st.lists(st.text(max_size=5), max_size=6), max_size=4)


@given(lots, st.data())
def test_texts_are_a_list_of_strings(drawn: list[list[str]], data: st.DataObject) -> None:
    together = [text for lot in drawn for text in lot]
    texts = Texts.joined([Texts.of([]), *map(Texts.of, drawn)])
    assert list(texts) == together and len(texts) == len(together)
    places = data.draw(
        st.lists(st.integers(0, len(together) - 1), max_size=9) if together else st.just([])
    )
    taken = texts.take(np.array(places, dtype=np.int64))
    assert list(taken) == [together[place] for place in places]
    assert taken[1:] == [together[place] for place in places][1:]
    assert list(Texts.joined([taken, texts])) == [*taken, *together]


def test_many_texts_take_less_memory_than_they_are_long() -> None:
    strings = [
        f"answer {i} says that the company's shares rose by {i % 7} dollars" for i in range(2_000)
    ]
    texts = Texts.of(strings)
    assert list(texts) == strings and texts[1_999] == strings[-1]
    assert sum(len(page.packed) for page in texts._pages) < sum(map(len, strings)) / 2
