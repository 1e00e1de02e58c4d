"""Experiment files of a test: read, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput


def load(folder: Path, text: str) -> Experiment:
    """The experiment of this text."""
    file = folder / "experiment.yaml"
    file.write_text(text)
    return load_experiment(file)


def mistake(folder: Path, text: str) -> str:
    """The line that refuses this text, from the number of the file's line on."""
    with pytest.raises(BadInput) as error:
        load(folder, text)
    file, message = f"{folder / 'experiment.yaml'}:", str(error.value)
    assert message.startswith(file) and "\n" not in message, message
    return message.removeprefix(file)
