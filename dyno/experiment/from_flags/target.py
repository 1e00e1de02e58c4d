"""The API that the flags of `dyno load` and `dyno baseline` name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from dyno.experiment.from_flags.values import FLAGS
from dyno.experiment.request import shown_url
from foundation.errors import BadInput
from foundation.http.endpoint import ADDRESS, read_address


@dataclass(frozen=True, kw_only=True)
class Target:
    """An API. `headers`: "Name: value" each. `extra_body`: a JSON object. `traces`: the port that
    it sends its traces to.

    Without `api`, the end of the url decides.
    """

    url: str
    model: str | None
    api: str | None = None
    api_key_env: str | None = None
    headers: Sequence[str] = ()
    extra_body: str | None = None
    ca_file: Path | None = None
    insecure: bool = False
    traces: int | None = None

    def variant(self, name: str, extra: Mapping[str, object]) -> dict[str, object]:
        """The section of a variant, whose requests hold `extra` too. Raises BadInput."""
        request = {
            "headers": dict(map(_header, self.headers)) or None,
            "extra": {**extra, **_json_object(self.extra_body)} or None,
            "ca_file": str(self.ca_file) if self.ca_file else None,
            "insecure": self.insecure or None,
            "traces": self.traces,
        }
        return {
            "name": name,
            "url": self.url,
            "model": self.model,
            "api_key_env": self.api_key_env,
            "request": {key: value for key, value in request.items() if value is not None} or None,
        }

    def effective_api(self) -> str:
        """`api`, or what the end of the url says. Raises BadInput for a url that is no address."""
        if self.url.startswith("${"):
            return self.api or "chat"
        try:
            address = read_address(self.url)
        except ValueError as error:
            raise BadInput(f"--url: {shown_url(self.url)!r}: {error}") from None
        return self.api or address.api or "chat"


def model_or_target(target: Target) -> str | Target:
    """The model to serve if `target.url` is the name of one; else the target.

    Raises BadInput for a model with flags of an API, and for an API without a model.
    """
    if not re.match(ADDRESS, target.url) and not target.url.startswith("${"):
        for field in fields(target):
            if field.name != "url" and getattr(target, field.name):
                flag = FLAGS.get(field.name, field.name).replace("_", "-")
                raise BadInput(f"--{flag} goes with a URL")
        return target.url
    if target.model is None:
        raise BadInput("with a URL, write --model: the name its server knows the model by")
    return target


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:  # the error does not repeat it, since it may be a key
        raise BadInput("--header: write 'Name: value', such as 'api-key: ${AZURE_KEY}'")
    return name.strip(), value.strip()


def _json_object(text: str | None) -> dict[str, object]:
    if text is None:
        return {}
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"--extra-body: write a JSON object, such as '{{\"priority\": 1}}' ({error})"
        ) from None
    if not isinstance(parsed, dict):
        raise BadInput("--extra-body: write a JSON object, such as '{\"priority\": 1}'")
    return parsed
