"""YAML as people mean it: words stay words, `${NAME}` may stand anywhere, and every field has a line."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any

import yaml

_WORDS = ("labels",)
_TEXT, _WHOLE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:int"


class AsWritten(yaml.SafeLoader):
    """Reads `labels: [yes, no, 1.0, null]` as the words that stand there.

    Numbers that only YAML 1.1 reads in another base (010 is its 8, 1:30 its 90) stay text, for a parser of units to judge.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        for key, value in node.value:
            if key.value in _WORDS and isinstance(value, yaml.SequenceNode):
                for word in value.value:
                    if isinstance(word, yaml.ScalarNode):
                        word.tag = _TEXT
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        digits = str(node.value).lstrip("+-")
        odd = ":" in digits or (digits[0] == "0" and digits[1:2].isdecimal())
        return node.value if odd else super().construct_yaml_int(node)


AsWritten.add_constructor(_WHOLE, AsWritten.construct_yaml_int)

_REFERENCE = re.compile(r"\$\{(\w+)\}")
# Braces end a plain word in {...}; two characters for private use, which are as long, take their place while YAML is read.
_OPEN, _SHUT = "\ue000", "\ue001"


def read_yaml(text: str) -> Any:
    """What a YAML text says; `${NAME}` is a word like any other, `{api-key: ${KEY}}` included. Raises yaml.YAMLError."""
    return _with_braces(yaml.load(_guarded(text), Loader=AsWritten))


def _guarded(text: str) -> str:
    return _REFERENCE.sub(rf"${_OPEN}\1{_SHUT}", text)


def _with_braces(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_OPEN, "{").replace(_SHUT, "}")
    if isinstance(value, dict):
        return {_with_braces(key): _with_braces(each) for key, each in value.items()}
    return [_with_braces(each) for each in value] if isinstance(value, list) else value


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The 1-based line of the field at `path`, or of its nearest parent that is there."""
    node = yaml.compose(_guarded(text), Loader=yaml.SafeLoader)
    line = 1
    for part in path:
        step = _step(node, part)
        if step is None:
            break
        line, node = step
    return line


def _step(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and str(part).isdigit() and int(part) < len(node.value):
        value = node.value[int(part)]
        return value.start_mark.line + 1, value
    return None
