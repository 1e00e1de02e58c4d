"""A variant's `grid`: one variant for each combination of the values of its keys.

`{name: int8, grid: {serve.engine.max-num-seqs: [16, 64], serve.enforce_eager: [true, false]}}`
becomes `int8@max-num-seqs=16,enforce_eager=true` and three more, once, as the experiment is read.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from foundation.names import GRID

MOST_VARIANTS = 100
_KEY = re.compile(r"serve\.engine\.[\w.-]+|(serve|finetune|quantize)\.\w+|quantize|prompt")
_PLAIN = re.compile(r"[A-Za-z0-9._+-]{1,30}")
_ENGINE = "serve.engine."


def expanded(variants: Sequence[object]) -> list[tuple[int, object]]:
    """Every variant, with its index in the file; a grid gives one for each combination.

    Raises ValueError that names the place in the file.
    """
    counts = [_combinations(f"variants.{i}", variant) for i, variant in enumerate(variants)]
    if sum(counts) > MOST_VARIANTS:
        largest = max(range(len(counts)), key=counts.__getitem__)
        raise ValueError(
            f"variants.{largest}.grid: it has {counts[largest]:,} combinations, and an experiment "
            f"at most {MOST_VARIANTS} variants; write fewer values"
        )
    return [(i, each) for i, variant in enumerate(variants) for each in _variants_of(i, variant)]


def place_in_file(variants: Sequence[object], path: Sequence[int | str]) -> list[int | str]:
    """The place in the file of a field of the expanded experiment.

    `variants`: the list as it stands in the file. `path`: from the file's top, such as
    ["variants", 3, "serve", "dtype"].
    """
    if len(path) < 2 or path[0] != "variants" or not str(path[1]).isdigit():
        return list(path)
    origins = [i for i, _ in expanded(variants)]
    if (number := int(path[1])) >= len(origins):
        return list(path)
    variant, rest = variants[origins[number]], list(path[2:])
    grid = variant.get("grid") if isinstance(variant, Mapping) else None
    for key in grid or {}:
        parts = _parts(str(key))
        if rest[: len(parts)] == parts:
            rest = ["grid", str(key), *rest[len(parts) :]]
    return ["variants", origins[number], *rest]


def _combinations(where: str, variant: object) -> int:
    """How many variants a variant of the file becomes. Raises ValueError for a bad grid."""
    if not isinstance(variant, Mapping) or "grid" not in variant:
        return 1
    grid = variant["grid"]
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(
            f"{where}.grid: write keys with lists of values, such as "
            "{serve.engine.max-num-seqs: [16, 64]}"
        )
    for key, values in grid.items():
        _check_key(f"{where}.grid.{key}", variant, str(key))
        _check_values(f"{where}.grid.{key}", values)
    for key in map(str, grid):
        parents = itertools.accumulate(key.split(".")[:-1], "{}.{}".format)
        if above := next((each for each in parents if each in grid), None):
            raise ValueError(f"{where}.grid.{key}: {above} stands beside it; vary one of them")
    return prod(map(len, grid.values()))


def _check_key(place: str, variant: Mapping[str, Any], key: str) -> None:
    if _KEY.fullmatch(key) is None or key == "serve.engine":
        raise ValueError(
            f"{place}: a grid varies keys of serve, serve.engine, finetune and quantize, "
            "and quantize and prompt themselves, such as serve.engine.max-num-seqs"
        )
    section: object = variant
    if key.startswith("quantize.") and isinstance(variant.get("quantize"), str):
        section = {"quantize": {"method": variant["quantize"]}}
    for part in _parts(key):
        if not isinstance(section, Mapping) or part not in section:
            return
        section = section[part]
    raise ValueError(f"{place}: the variant says {key} itself; leave one of them out")


def _check_values(place: str, values: object) -> None:
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"{place}: write a list of values, such as [16, 64]")
    if repeated := next((t for t, n in Counter(map(_text, values)).items() if n > 1), None):
        raise ValueError(f"{place}: {repeated} stands there twice")


def _variants_of(number: int, variant: object) -> Iterator[object]:
    if not isinstance(variant, Mapping) or "grid" not in variant:
        yield variant
        return
    grid: Mapping[str, Sequence[object]] = variant["grid"]
    rest = {key: value for key, value in variant.items() if key != "grid"}
    if not isinstance(rest.get("name"), str):  # the schema says what is wrong with the name
        yield rest
        return
    titles = _titles(list(grid))
    for places in itertools.product(*(range(len(values)) for values in grid.values())):
        each, settings = rest, []
        for (key, values), title, place in zip(grid.items(), titles, places, strict=True):
            each = _with(each, _parts(key), values[place], f"variants.{number}")
            settings.append(f"{title}={_word(values[place], place)}")
        yield {**each, "name": f"{rest['name']}{GRID}{','.join(settings)}"}


def _titles(keys: Sequence[str]) -> list[str]:
    """The last part of each key, or the whole key where two have the same last part."""
    last = [_parts(key)[-1] for key in keys]
    return [title if last.count(title) == 1 else key for key, title in zip(keys, last, strict=True)]


def _word(value: object, place: int) -> str:
    """A value as a part of a name; "no.2" for the second of a list if its text can be none."""
    text = _text(value)
    return text if _PLAIN.fullmatch(text) else f"no.{place + 1}"


def _text(value: object) -> str:
    """A value as YAML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _parts(key: str) -> list[str]:
    """The path of a key in its variant; an engine's option may have dots of its own."""
    if key.startswith(_ENGINE):
        return ["serve", "engine", key.removeprefix(_ENGINE)]
    return key.split(".")


def _with(
    section: Mapping[str, Any], path: Sequence[str], value: object, where: str
) -> dict[str, Any]:
    """A copy of a section with another value at a path. Raises ValueError for no section there."""
    key, *rest = path
    if not rest:
        return {**section, key: value}
    inner = section.get(key)
    if key == "quantize" and isinstance(inner, str):
        inner = {"method": inner}
    if not isinstance(inner, Mapping | None):
        raise ValueError(f"{where}.{key}: the grid varies keys of it; write keys and values")
    return {**section, key: _with(inner or {}, rest, value, f"{where}.{key}")}
