"""What a person reads where a value has another type than a section asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_NUMBER, _LIST = "write a number", "write a list, such as [a, b]"
_SECTION = "write a section, such as {key: value}"
_WORDS = {
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "string_type": "write a text",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "dict_type": _SECTION,
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "missing": "missing; it is required",
}
_BOUNDS = (("greater than or equal to", "at least"), ("less than or equal to", "at most"),
           ("greater than", "more than"))  # fmt: skip
_WRITE = re.compile(r"^(Input|String) should (be |have |match )?")


def wrong_value(problem: ErrorDetails) -> str:
    """A problem of validation as a sentence that says what to write.

    A section's own sentences, which its validators raise, stay as they are.
    """
    kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
    if kind in ("value_error", "assertion_error"):
        return message
    if kind in _WORDS:
        return _WORDS[kind]
    return words_for(message)


def words_for(message: str) -> str:
    """The message of a validator that isn't ours, in the words of the others."""
    for kind in ("integer", "number", "boolean"):
        if message.startswith(f"Input should be a valid {kind}"):
            return _WORDS[{"integer": "int", "number": "float", "boolean": "bool"}[kind] + "_type"]
    for theirs, ours in _BOUNDS:
        message = message.replace(theirs, ours)
    return _WRITE.sub("write ", message)
