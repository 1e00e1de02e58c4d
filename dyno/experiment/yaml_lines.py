"""Reads YAML as people mean it: words stay words, `${NAME}` works anywhere, each field has a line.

A key is the word that stands there: `on` and `off` too, which YAML 1.1 reads as true and false. A
key that stands twice is an error. So is an alias within itself, aliases that unfold into more
than a person could mean, and nesting without end.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any

import yaml

_WORDS = ("labels",)
_TEXT, _WHOLE, _DATE = (
    "tag:yaml.org,2002:str",
    "tag:yaml.org,2002:int",
    "tag:yaml.org,2002:timestamp",
)
_MERGE = "tag:yaml.org,2002:merge"
_MOST_VALUES = 100_000
_LONGEST_NUMBER = 300


class AsWritten(yaml.SafeLoader):
    """Reads `labels: [yes, no, 1.0, null]` as the words that stand there.

    Dates stay text. So do numbers that only YAML 1.1 reads in another base (010 is its 8, 1:30 its
    90); a parser of units judges them.
    """

    def get_single_node(self) -> yaml.Node | None:
        """The document's root. Raises yaml.YAMLError for aliases that unfold without end."""
        node = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping. Raises yaml.YAMLError for a key that stands twice."""
        _check_keys(node)
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                key.tag = _TEXT
            if key.value in _WORDS and isinstance(value, yaml.SequenceNode):
                for word in value.value:
                    if isinstance(word, yaml.ScalarNode):
                        word.tag = _TEXT
        return super().construct_mapping(node, deep)

    def construct_whole(self, node: yaml.ScalarNode) -> int | str:
        """A decimal number, or the text of any other."""
        written = str(self.construct_scalar(node))
        digits = written.lstrip("+-")
        odd = (
            ":" in digits
            or (digits[:1] == "0" and digits[1:2].isdecimal())
            or len(digits) > _LONGEST_NUMBER
        )
        return written if odd else int(self.construct_yaml_int(node))

    def construct_date(self, node: yaml.ScalarNode) -> str:
        """A date as the text that stands there."""
        return str(self.construct_scalar(node))


AsWritten.add_constructor(_WHOLE, AsWritten.construct_whole)
AsWritten.add_constructor(_DATE, AsWritten.construct_date)


def _count(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """The number of values in a node with every alias unfolded.

    Raises yaml.YAMLError for more than `_MOST_VALUES`, or for an endless alias.
    """
    if id(node) in counted:
        if (known := counted[id(node)]) is None:
            raise _Problem("an alias stands within what it names", node)
        return known
    counted[id(node)] = None
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        inner = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    values = 1 + sum(_count(each, counted) for each in inner)
    if values > _MOST_VALUES:
        raise _Problem(f"it unfolds into more than {_MOST_VALUES:,} values", node)
    counted[id(node)] = values
    return values


def _check_keys(node: yaml.MappingNode) -> None:
    """Raises yaml.YAMLError for a key that stands twice: YAML would silently take the last."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if key.value in lines:
                first = lines[key.value]
                raise _Problem(
                    f"{key.value} stands here a second time, the first is in line {first}", key
                )
            lines[key.value] = key.start_mark.line + 1


class _Problem(yaml.MarkedYAMLError):
    def __init__(self, problem: str, node: yaml.Node) -> None:
        super().__init__(problem=problem, problem_mark=node.start_mark)


_REFERENCE = re.compile(r"\$\{(\w+)\}")
# Braces end a plain word in {...}. While YAML is read, two characters for private use replace them.
_OPEN, _SHUT = "\ue000", "\ue001"


def read_yaml(text: str) -> object:
    """The value of a YAML text. `${NAME}` is a word like any other, as in `{api-key: ${KEY}}`.

    Raises yaml.YAMLError.
    """
    try:
        return _with_braces(yaml.load(_guarded(text), Loader=AsWritten))
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="it is nested too deep to be read") from None
    except (LookupError, TypeError, ValueError):
        raise yaml.MarkedYAMLError(
            problem="a value is not of the kind that its tag (!!int, !!bool, ...) promises"
        ) from None


def _guarded(text: str) -> str:
    return _REFERENCE.sub(rf"${_OPEN}\1{_SHUT}", text)


def _with_braces(value: object) -> object:
    if isinstance(value, str):
        return value.replace(_OPEN, "{").replace(_SHUT, "}")
    if isinstance(value, dict):
        return {_with_braces(key): _with_braces(each) for key, each in value.items()}
    return [_with_braces(each) for each in value] if isinstance(value, list) else value


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The 1-based line of the field at `path`, or of its nearest parent in the text.

    A key may have dots of its own, so it may stand for several parts of the path.
    """
    node = yaml.compose(_guarded(text), Loader=yaml.SafeLoader)
    line, left = 1, [str(part) for part in path]
    while left and (step := _step(node, left)) is not None:
        line, node, left = step
    return line


def _step(node: yaml.Node | None, path: list[str]) -> tuple[int, yaml.Node, list[str]] | None:
    """The line of the first key of a path, its value, and the rest of the path."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            parts = str(key.value).split(".")
            if key.value == path[0] or parts == path[: len(parts)]:
                rest = path[1:] if key.value == path[0] else path[len(parts) :]
                return key.start_mark.line + 1, value, rest
    if isinstance(node, yaml.SequenceNode) and path[0].isdigit() and int(path[0]) < len(node.value):
        value = node.value[int(path[0])]
        return value.start_mark.line + 1, value, path[1:]
    return None
