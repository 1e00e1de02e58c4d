"""Checks that the tables of the page show the numbers of `summary.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from benchmarks.fuzzed_runs.files import Json

_FACTORS = {"%": 0.01, "s": 1e3, "$ per 1,000": 1e-3} | {
    name: 10.0**power for power, name in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB"))
}


@dataclass
class _Row:
    label: str = ""
    unit: str = ""
    values: list[str] = field(default_factory=list)
    between: dict[int, str] = field(default_factory=dict)


class _Tables(HTMLParser):
    """The tables of class "comparison": titles of columns, and rows."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[tuple[list[str], list[_Row]]] = []
        self._in = False
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("class") or ""
        if tag == "table":
            self._in = kind == "comparison"
            if self._in:
                self.tables.append(([], []))
        if not self._in or tag == "br":
            return
        self._open.append(f"{tag} {kind}".strip())
        titles, rows = self.tables[-1]
        if tag == "th" and "thead" in self._open:
            titles.append("")
        if tag == "tr" and "tbody" in self._open:
            rows.append(_Row())
        if tag == "span" and kind == "value":
            rows[-1].values.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._open:
            self._open.pop()
        self._in = self._in and tag != "table"

    def handle_data(self, data: str) -> None:
        if not self._in or not self._open:
            return
        (titles, rows), at = self.tables[-1], self._open[-1]
        if at.startswith("th") and "thead" in self._open:
            titles[-1] += data.strip()
        elif at == "th" and rows:
            rows[-1].label += data.strip()
        elif at == "span unit":
            rows[-1].unit = data.strip()
        elif at == "span value":
            rows[-1].values[-1] += data
        elif at == "span between":
            rows[-1].between[len(rows[-1].values) - 1] = data


def check_page(run: Path, summary: Json) -> Iterator[str]:
    """Faults in the comparison tables of `report.html`: of the judged stage, then the others."""
    page = _Tables()
    page.feed((run / "report.html").read_text())
    judged = summary["variants"][0]["judged_stage"]
    names = dict.fromkeys(s["stage"] for v in summary["variants"] for s in v["stages"])
    stages = [judged, *(name for name in names if name != judged)]
    if len(page.tables) != len(stages):
        yield f"report.html has {len(page.tables)} tables of {len(stages)} stages"
        return
    for stage, (titles, rows) in zip(stages, page.tables, strict=True):
        for row in rows:
            yield from (
                f"report.html, {stage}: {each}" for each in _row(row, titles, stage, summary)
            )


def _row(row: _Row, titles: list[str], stage: str, summary: Json) -> Iterator[str]:
    keys = [
        key
        for key, metric in summary["metrics"].items()
        if metric["label"].lower() == row.label.lower()
    ]
    variants = {v["variant"]: v for v in summary["variants"]}
    if row.label == "Replicas":
        yield from _replicas(row, titles, stage, variants)
    if not keys:
        return
    for place, (name, text) in enumerate(zip(titles[1:], row.values, strict=False)):
        estimate = _estimate(variants[name], keys[0], stage)
        value = estimate and estimate["value"]
        if (value is None) != (text == "—"):
            yield f"{name}: {row.label} is {value}, shown as {text}"
        if value is None or text == "—":
            continue
        shown = [text, *row.between.get(place, "").split(" to ")]
        for told, number in zip(shown, (value, estimate["low"], estimate["high"]), strict=False):
            if told and not _shows(told, row.unit, number):
                yield f"{name}: {row.label} is {number}, shown as {told} {row.unit}"


def _replicas(row: _Row, titles: list[str], stage: str, variants: dict[str, Json]) -> Iterator[str]:
    for name, text in zip(titles[1:], row.values, strict=False):
        at = next((s for s in variants[name]["stages"] if s["stage"] == stage), None)
        words = re.match(r"\d+", text)
        if (at is None) != (words is None) or (at and words and int(words[0]) != at["replicas"]):
            yield f"{name}: {at and at['replicas']} replicas, shown as {text}"


def _estimate(variant: Json, key: str, stage: str) -> Json | None:
    at = next((s for s in variant["stages"] if s["stage"] == stage), None)
    if at is not None and key in at["metrics"]:
        found: Json = at["metrics"][key]
        return found
    once: Json | None = variant["metrics"].get(key)
    return once if stage == variant["judged_stage"] else None


def _shows(text: str, unit: str, number: float) -> bool:
    """Whether a number rounds to a text, whose last digit may be off by half."""
    digits = text.replace("−", "-").replace(",", "")
    decimals = len(digits.partition(".")[2])
    factor = _FACTORS.get(unit, 1.0)
    return abs(float(digits) - number / factor) <= 0.500001 * 10.0**-decimals
