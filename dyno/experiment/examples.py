"""Finds the examples: beside the packages in a checkout, inside this one in a wheel."""

from __future__ import annotations

from pathlib import Path

from foundation.errors import BadInput


def example(name: str) -> Path:
    """The experiment file of an example. Raises BadInput if it was not installed."""
    dyno = Path(__file__).resolve().parents[1]
    for folder in (dyno.parent / "examples", dyno / "examples"):
        if (file := folder / name / "experiment.yaml").is_file():
            return file
    raise BadInput(
        f"the example {name} was not installed with dyno; clone the repository to have it"
    )
