from __future__ import annotations

from pathlib import Path

import pytest

from foundation.data.examples import Example
from foundation.models.model import ModelRef
from tests.tiny_model import build_tiny_model

LABELS = ("a", "b", "c")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return build_tiny_model(tmp_path_factory.mktemp("base"), initializer_range=0.5)


def example(question: str, answer: str, line: int = 1, file: str = "train.jsonl") -> Example:
    return Example(
        Path(file), line, ({"role": "user", "content": question},), answer, {"input": question}
    )
