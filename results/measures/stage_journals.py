"""The journals of a stage's folder: which are its blocks, and whether they had the same load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from foundation.run.journal import Damage, Journal, OnBatch, journal_files, read_journal
from foundation.run.records import JournalHeader
from results.measures.doubt import Doubt, some

LOAD = ("offered_rate", "concurrency", "arrivals", "replicas", "router")
QUESTION = ("model", "api", "prompt_style")
CLOCKS = ("clock", "transport")


def journals_of(
    folder: Path, each: OnBatch | None = None
) -> tuple[dict[Path, Journal], list[Damage]]:
    """The blocks in `load/VARIANT/STAGE` by file, and what is left out of them."""
    own: dict[Path, Journal] = {}
    left_out: list[Damage] = []
    begun: dict[tuple[int, int], Path] = {}
    for file in journal_files(folder):
        journal = read_journal(file, each)
        if isinstance(journal, Damage):
            left_out.append(journal)
            continue
        left_out += journal.damage
        header = journal.header
        origin = header.origin_unix_ns, header.origin_monotonic_ns
        if (header.variant, header.stage) != (folder.parent.name, folder.name):
            words = (
                f"a journal of variant {header.variant!r}, stage {header.stage!r}, which this "
                "folder is not"
            )
            left_out.append(Damage(file, 1, f"{words}: the whole block is left out"))
        elif all(origin) and origin in begun:
            left_out.append(
                Damage(file, 1, f"a copy of {begun[origin].name}: the block is counted once")
            )
        else:
            begun[origin] = file
            own[file] = journal
    return own, left_out


def header_findings(journals: Mapping[Path, Journal], style: str) -> list[Doubt]:
    """What the headers of a stage's blocks, taken together, say against it.

    `style`: the variant's, as the run names it.
    """
    headers = {file: journal.header for file, journal in journals.items()}
    doubts = [*_disagreements(list(headers.values())), *_numbers(headers)]
    # prompts that were cut to length by a variant's own count bear the variant's name
    own = {header.variant for header in headers.values()}
    if others := sorted({header.prompt_style for header in headers.values()} - {style} - own):
        doubts.append(
            (
                "SUSPECT",
                f"asked in prompt style {', '.join(others)}, and variants.json says {style}",
            )
        )
    seeds = [header.seed for header in headers.values()]
    if 1 < len(set(seeds)) < len(seeds):
        words = (
            "some blocks share a seed and others have one of their own: they come from different "
            "runs"
        )
        doubts.append(("SUSPECT", words))
    return doubts


def load_differs(headers: Sequence[JournalHeader]) -> str | None:
    """Why the blocks are not of one offered load, None where they are."""
    differing = [words for name in LOAD if (words := _values(headers, name))]
    return (
        f"the blocks were not offered the same load ({'; '.join(differing)})" if differing else None
    )


def _disagreements(headers: Sequence[JournalHeader]) -> list[Doubt]:
    doubts: list[Doubt] = []
    if words := load_differs(headers):
        doubts.append(("INVALID", words))
    if questions := [words for name in QUESTION if (words := _values(headers, name))]:
        doubts.append(
            (
                "INVALID",
                f"the blocks were not asked of one thing in one way ({'; '.join(questions)})",
            )
        )
    if identities := {header.identity for header in headers} - {headers[0].identity}:
        others = sum(header.identity in identities for header in headers)
        words = (
            f"{some(others, 'block')} of {len(headers)} measured something else (settings, "
            "contents or versions changed)"
        )
        doubts.append(("INVALID", words))
    if clocks := [words for name in CLOCKS if (words := _values(headers, name))]:
        doubts.append(("SUSPECT", f"the blocks were not timed in one way ({'; '.join(clocks)})"))
    return doubts


def _values(headers: Sequence[JournalHeader], name: str) -> str | None:
    """The values of a field that is not the same in all headers, in words."""
    values = list(dict.fromkeys(getattr(header, name) for header in headers))
    return f"{name.replace('_', ' ')} {', '.join(map(str, values))}" if len(values) > 1 else None


def _numbers(headers: Mapping[Path, JournalHeader]) -> list[Doubt]:
    """Blocks whose number is another's, or not that of their file."""
    numbers = [header.block for header in headers.values()]
    doubts: list[Doubt] = []
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        doubts.append(
            ("SUSPECT", f"several journals say they are block {', '.join(map(str, twice))}")
        )
    renamed = [
        f"{file.name} is block {header.block}"
        for file, header in headers.items()
        if _number_of(file) != header.block
    ]
    if renamed:
        doubts.append(
            (
                "SUSPECT",
                f"journals whose name says another block than they do: {'; '.join(renamed[:3])}",
            )
        )
    return doubts


def _number_of(file: Path) -> int | None:
    digits = file.stem.removeprefix("block-")
    return int(digits) if digits.isdecimal() else None
