"""Names within one experiment: each its own where letters have no case, and none that dyno gives to something of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from foundation.names import twin
from foundation.run.records import PLAIN

# Journals and prompts that no section asks for. A stage of such a name would share a prefix cache with them.
_STAGES = ("warm-up", "rate", "distil")
_PROBE = "probe-"  # and the probe's name: the stage that asks it
_QUESTIONS = ("eval",)
# Logs of their own, and the folder of the experiment's adapter.
_VARIANTS = ("finetune", "quantize")
_UNFINISHED = ".partial"  # what a folder's name ends in until it is whole


def check_names(
    variants: Sequence[str], stages: Sequence[str], probes: Sequence[str], prompts: Iterable[str]
) -> None:
    """Raises ValueError: the field, what is wrong with its name, and what to write. `stages` are their labels."""
    for number, name in enumerate(variants):
        if name.casefold() in _VARIANTS or name.casefold().endswith(_UNFINISHED):
            raise ValueError(
                f"variants.{number}.name: {name!r} is what dyno calls something of its own; write another"
            )
    for number, name in enumerate(stages):
        if name.casefold() in _STAGES or name.casefold().startswith(_PROBE):
            raise ValueError(
                f"workload.stages.{number}.name: {name!r} is what dyno calls something of its own; write another"
            )
    for number, name in enumerate(probes):
        if name.casefold() in _QUESTIONS:
            raise ValueError(
                f"quality.probes.{number}.name: {name!r} is the held-out data's own; write another"
            )
    if PLAIN in prompts:
        raise ValueError(
            f"prompts.{PLAIN}: {PLAIN!r} is what variants without a prompt are asked in; write another name"
        )
    for kind, names in (
        ("variants", variants),
        ("workload.stages", stages),
        ("quality.probes", probes),
    ):
        if same := twin(names):
            both = (
                f"two are named {same[1]!r}"
                if same[0] == same[1]
                else f"{same[0]!r} and {same[1]!r} differ in case alone"
            )
            raise ValueError(f"{kind}: {both}; give each its own name")
