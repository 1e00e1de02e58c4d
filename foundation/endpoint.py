"""Where a variant answers: what `serve` hands out and `loadgen` sends to."""

from __future__ import annotations

from dataclasses import dataclass, field

ADDRESS = r"^(https?|http\+unix)://"
"""How the address of an API begins; behind `http+unix://` stands the socket's path, percent-encoded."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible API that serves one variant.

    `base_url` ends in `/v1`, no slash after it; `model` is the name the server knows the variant by. The key is not in `repr`.
    """

    variant: str
    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
