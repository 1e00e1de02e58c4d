"""Marks the fields of an experiment that name files, and makes all of them absolute in one walk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from foundation.section import Section

S = TypeVar("S", bound=Section)
T = TypeVar("T", str, Path)


@dataclass(frozen=True)
class PathField:
    """Marks a field as the path of a file or folder.

    `or_name`: the field may hold another name; it is a path if it begins with "~" or if the file
    exists.
    `dotted`: only names with a dot or a slash are looked for.
    `unless`: tells which names never mean a file.
    """

    or_name: bool = False
    dotted: bool = False
    unless: Callable[[str], bool] = lambda name: False

    def absolute(self, name: T, where: Path) -> T:
        """The path from the folder `where`, with "~" expanded; another name stays as it is."""
        text = str(name)
        path = where / expanded(text)
        may_be = not self.dotted or any(sign in text for sign in "./")
        is_path = not self.or_name or text.startswith("~") or (may_be and path_exists(path))
        return type(name)(path.resolve()) if text and is_path and not self.unless(text) else name


File = Annotated[Path, PathField()]
"""The path of a file, and nothing else."""
FileOrName = Annotated[str, PathField(or_name=True)]
"""A path, or a name such as a hub id, `bundled:...` or `hub:...`."""


def expanded(name: str | Path) -> Path:
    """The path with "~" expanded; that of an unknown user stays as it is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def resolved(section: S, where: Path) -> S:
    """A copy of the section and all sections in it, with every marked path absolute."""
    update = {}
    for name, field in type(section).model_fields.items():
        mark = next(
            (each for each in field.metadata if isinstance(each, PathField)),
            _mark_in(field.annotation),
        )
        value = getattr(section, name)
        if (new := _resolved(value, mark, where)) != value:
            update[name] = new
    return section.model_copy(update=update) if update else section


def _resolved(value: Any, mark: PathField | None, where: Path) -> Any:
    if isinstance(value, Section):
        return resolved(value, where)
    if isinstance(value, str):
        return value if mark is None else mark.absolute(value, where)
    if isinstance(value, Path):
        return value if mark is None else mark.absolute(value, where)
    if isinstance(value, tuple | list):
        return type(value)(_resolved(each, mark, where) for each in value)
    if isinstance(value, Mapping):
        return {key: _resolved(each, mark, where) for key, each in value.items()}
    return value


def _mark_in(annotation: Any) -> PathField | None:
    """The mark of a type, or of a type within it: `File | None`, `tuple[File, ...]`."""
    marks = [
        each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, PathField)
    ]
    inner = (_mark_in(each) for each in get_args(annotation))
    return next((each for each in (*marks, *inner) if each is not None), None)


def path_exists(path: Path) -> bool:
    """Whether the path exists; False for any text that is no path, such as a long one of JSON."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a file, or with a zero in it
        return False
