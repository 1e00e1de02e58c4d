"""The effects of remedies that were measured on this machine, in the user's cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from foundation.machine import this_machine
from foundation.run.journal import UNREADABLE
from results.decision.improvement.expectation import is_believed
from results.decision.improvement.record import KnownEffect


class _Line(msgspec.Struct, frozen=True):
    """An effect, and the run whose rounds measured it."""

    run: str
    effect: KnownEffect


def effects_file() -> Path:
    """The file of this machine's effects, one a line."""
    return this_machine().file("effects", ".jsonl")


def read_effects(run: Path) -> list[KnownEffect]:
    """The effects of all runs but this one, less what can't be read or can't be an effect."""
    decoder, effects = msgspec.json.Decoder(_Line), []
    try:
        text = effects_file().read_bytes()
    except OSError:
        return []
    for row in text.splitlines():
        try:
            line = decoder.decode(row)
        except UNREADABLE:
            continue
        if is_believed(line.effect) and line.run != str(run):
            effects.append(line.effect)
    return effects


def keep_effects(effects: Sequence[KnownEffect], run: Path) -> None:
    """Adds the effects of a run, if the cache can be written."""
    rows = [msgspec.json.encode(_Line(str(run), effect)) + b"\n" for effect in effects]
    try:
        effects_file().parent.mkdir(parents=True, exist_ok=True)
        with effects_file().open("ab") as file:
            file.writelines(rows)
    except OSError:
        return
