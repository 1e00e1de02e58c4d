"""Asks a server for its `/metrics`, which may be missing, slow, too long or garbage."""

from __future__ import annotations

import time
from urllib.parse import quote

import aiohttp

from foundation.http.aiohttp_session import address
from foundation.http.endpoint import Endpoint
from serve.telemetry.engines import SELECTED
from serve.telemetry.prometheus import read_metrics

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_LONGEST_BYTES = 1 << 20
"""vLLM's metrics take some 50 KB; a longer page costs more to read than telemetry may cost."""
_MOST_FAILURES = 3
"""After so many failures in a row the page is asked for only every `_PAUSE_S`."""
_PAUSE_S = 30.0
# prometheus_client then collects only these: 3 KB instead of 50, and a tenth of the server's work.
_SELECTION = "&".join(f"name%5B%5D={quote(name)}" for name in SELECTED)


class MetricsPage:
    """The metrics of one server.

    `is_expected`: a server without metrics has trouble; that of somebody else may have none.
    `answered`: whether it ever gave a number that a sample has a field for.
    """

    def __init__(
        self, endpoint: Endpoint, session: aiohttp.ClientSession, is_expected: bool
    ) -> None:
        self._endpoint = endpoint
        self._session = session
        self._is_expected = is_expected
        self._selects = True
        self._is_late = False
        self._failures = 0
        self._next_s = 0.0
        self._problem = ""
        self._refused: dict[str, str] = {}
        self.answered = False

    async def read(self) -> dict[str, int | float]:
        """The fields of a sample; empty where the page does not come in time or has none."""
        if time.monotonic() < self._next_s:
            return {}
        fields = await self._fields()
        if not fields and not self.answered and self._selects and not self._is_late:
            # Several API server processes, or another engine: no selection.
            self._selects = False
            fields = await self._fields()
        self.answered = self.answered or bool(fields)
        return fields

    @property
    def troubles(self) -> list[str]:
        """What was missing or could not be believed, a sentence each."""
        variant = self._endpoint.variant
        sentences = []
        if self.answered and self._problem:
            sentences.append(f"{variant}: {self._problem}, so some of its own numbers are missing")
        elif self._is_expected and not self.answered and not self._refused:
            problem = self._problem or "its /metrics has no number that a sample holds"
            sentences.append(f"{variant}: {problem}, so its own numbers are missing")
        if self._refused:
            name, why = next(iter(self._refused.items()))
            count = len(self._refused)
            more = f" and {count - 1} more" if count > 1 else ""
            sentences.append(f"{variant}: its /metrics is not believed: {name}{more} ({why})")
        return sentences

    async def _fields(self) -> dict[str, int | float]:
        text = await self._text()
        if text is None:
            return {}
        reading = read_metrics(text)
        self._refused = reading.refused | self._refused
        return reading.fields

    async def _text(self) -> str | None:
        target = self._endpoint.beside("/metrics")
        if self._selects:
            target += ("&" if "?" in target else "?") + _SELECTION
        problem = None
        page = bytearray()
        try:
            async with self._session.get(
                address(self._endpoint, target), timeout=_TIMEOUT, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    problem = f"its /metrics answered HTTP {answer.status}"
                async for piece in answer.content.iter_any():
                    page += piece
                    if len(page) > _LONGEST_BYTES:
                        problem = "its /metrics is longer than 1 MiB"
                        break
        except TimeoutError:
            self._is_late = True
            problem = f"its /metrics did not end in {_TIMEOUT.total:g} s"
        except aiohttp.ClientError as error:
            problem = f"its /metrics can't be read ({type(error).__name__})"
        if problem is None:
            self._failures = 0
            return page.decode(errors="replace")
        self._problem = self._problem or problem
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            self._next_s = time.monotonic() + _PAUSE_S
        return None
