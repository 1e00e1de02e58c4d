"""Fields of an experiment that name files: marked where they are declared, made absolute in one walk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from foundation.section import Section

S = TypeVar("S", bound=Section)
T = TypeVar("T", str, Path)


@dataclass(frozen=True)
class Place:
    """Marks a field as the path of a file or folder.

    `or_name`: it may be the name of something else, and is a path where it begins with "~" or where
    there is such a file; with `dotted`, only names with a dot or a slash are looked for. `unless`
    says which names never mean a file.
    """

    or_name: bool = False
    dotted: bool = False
    unless: Callable[[str], bool] = lambda name: False

    def absolute(self, name: T, where: Path) -> T:
        """The path from the folder `where`, "~" expanded; a name that is no path as it is."""
        text = str(name)
        there = where / expanded(text)
        may_be = not self.dotted or any(sign in text for sign in "./")
        is_path = not self.or_name or text.startswith("~") or (may_be and there_is(there))
        return type(name)(there.resolve()) if text and is_path and not self.unless(text) else name


File = Annotated[Path, Place()]
"""The path of a file, and nothing else."""
FileOrName = Annotated[str, Place(or_name=True)]
"""A path, or a name such as a hub id, `bundled:...` or `hub:...`."""


def expanded(name: str | Path) -> Path:
    """The path with "~" expanded; one of an unknown user stays as it is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def resolved(section: S, where: Path) -> S:
    """The same section, and all sections in it, with every marked path absolute."""
    update = {}
    for name, field in type(section).model_fields.items():
        place = next(
            (each for each in field.metadata if isinstance(each, Place)),
            _place_in(field.annotation),
        )
        value = getattr(section, name)
        if (new := _resolved(value, place, where)) != value:
            update[name] = new
    return section.model_copy(update=update) if update else section


def _resolved(value: Any, place: Place | None, where: Path) -> Any:
    if isinstance(value, Section):
        return resolved(value, where)
    if isinstance(value, str):
        return value if place is None else place.absolute(value, where)
    if isinstance(value, Path):
        return value if place is None else place.absolute(value, where)
    if isinstance(value, tuple | list):
        return type(value)(_resolved(each, place, where) for each in value)
    if isinstance(value, Mapping):
        return {key: _resolved(each, place, where) for key, each in value.items()}
    return value


def _place_in(annotation: Any) -> Place | None:
    """The mark of a type, or of a type within it: `File | None`, `tuple[File, ...]`."""
    marks = [each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Place)]
    inner = (_place_in(each) for each in get_args(annotation))
    return next((each for each in (*marks, *inner) if each is not None), None)


def there_is(path: Path) -> bool:
    """Whether the path leads to something, for any text: a long one of JSON is no name of a file."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a file, or with a zero in it
        return False
