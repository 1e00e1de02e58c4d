"""Chat templates: finds a folder's template, parses it with jinja, and renders messages.

Works without transformers or torch. The environment is that of transformers and vLLM: a sandbox
with loop controls, `{% generation %}`, `raise_exception`, `strftime_now` and a plain `tojson`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from foundation.errors import BadInput
from foundation.files.json_object import object_if_there

FILE = "chat_template.jinja"
_SETTINGS = "tokenizer_config.json"
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


def read_template(folder: Path) -> str | None:
    """The chat template of the tokenizer in this folder; None if it has none.

    A file `chat_template.jinja` comes before the field of `tokenizer_config.json`, as in
    transformers; of several by name the one called "default" counts. Raises BadInput for files
    that can't be read.
    """
    if (file := folder / FILE).is_file():
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{file}: can't be read ({error})") from None
        return text if text.strip() else None
    named = read_settings(folder).get("chat_template")
    if isinstance(named, list):
        named = next(
            (
                t.get("template")
                for t in named
                if isinstance(t, dict) and t.get("name") == "default"
            ),
            None,
        )
    if named is not None and not isinstance(named, str):
        raise BadInput(
            f"{folder / _SETTINGS}: chat_template: write the template's text, or remove it"
        )
    return named if named and named.strip() else None


def read_settings(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json`, parsed; empty if it is missing. Raises BadInput if it is broken."""
    return object_if_there(folder / _SETTINGS)


def where_template(folder: Path) -> Path:
    """The file to name in an error about the template of a folder, or the template's own file."""
    if folder.is_file():
        return folder
    return folder / FILE if (folder / FILE).is_file() else folder / _SETTINGS


def special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the special tokens that a template may name, such as `bos_token`."""
    return {name: _content(settings[name]) for name in _SPECIAL if settings.get(name)}


def render_chat(
    template: str, messages: Sequence[Mapping[str, Any]], tokens: Mapping[str, str]
) -> str:
    """The prompt: the rendered messages and the opening of the assistant's turn.

    Raises jinja2.TemplateError if the template does not parse or refuses the messages.
    """
    variables = {**tokens, "messages": list(messages), "add_generation_prompt": True}
    return _environment().from_string(template).render(variables)


def check_template(folder: Path, template: str, messages: Sequence[Mapping[str, Any]]) -> None:
    """Raises BadInput if a folder's template does not parse or refuses these messages."""
    file = where_template(folder)
    try:
        render_chat(template, messages, special_tokens(read_settings(folder)))
    except jinja2.TemplateSyntaxError as error:
        raise BadInput(
            f"{file}: the chat template is broken (line {error.lineno}: {error.message}); "
            "mend it, or copy that of the original model"
        ) from None
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        roles = ", ".join(str(message["role"]) for message in messages)
        raise BadInput(
            f"{file}: the chat template refuses the first prompt, of {roles} ({error}); "
            "word the prompts otherwise, or use another template"
        ) from None


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which marks the assistant's text and leaves it unchanged."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers' templates expect it; jinja's own filter escapes HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
