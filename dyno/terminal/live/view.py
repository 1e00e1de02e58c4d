"""The screen as rich draws it: the stage under way, and what the journals say so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from foundation.format import between, duration, quantity
from foundation.printable import visible
from results.summary import Decision, Estimate

WIDEST, WIDE, MEDIUM = 130, 100, 64
"""Columns of a terminal from which on quality, intervals, and p50 and reasons are shown."""
_LONGEST_NAME = 20
_COLOURS: dict[Decision, str] = {"SHIP": "green", "DON'T SHIP": "red", "INCONCLUSIVE": "yellow"}
_BAR_WIDTH = 28
_RATE_FROM_S = 2.0
"""A rate over less time than this says little."""


@dataclass
class StageView:
    """A stage under way: `done` of `total` units (None: unknown) since `began_s`."""

    name: str
    total: float | None = None
    unit: str = ""
    began_s: float = 0.0
    done: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class VariantView:
    """A variant at the judged stage, after the blocks that are whole.

    `requests` were counted. `reason`: the objective that decides, or why it was loaded no more.
    """

    name: str
    requests: int
    p50: Estimate
    p95: Estimate
    quality: Estimate
    decision: Decision
    reason: str
    is_over: bool = False


@dataclass(frozen=True)
class Look:
    """The variants after so many whole blocks of the run, in all."""

    blocks: int
    variants: Sequence[VariantView]


@dataclass
class View:
    """What is shown. `trouble`: why there is no look at the journals, or none after `look`."""

    stage: StageView = field(default_factory=lambda: StageView("starting"))
    look: Look | None = None
    trouble: str = ""

    def drawn(self, width: int, now_s: float) -> RenderableType:
        """The screen at `now_s` (the clock of `began_s`) on a terminal of so many columns."""
        parts: list[RenderableType] = [_stage_line(self.stage, width, now_s)]
        if self.stage.note:
            parts.append(_line(f"  {self.stage.note}", "dim"))
        if self.look is not None:
            parts += [*_rows(self.look, width), _line(_footing(self.look), "dim")]
        if self.trouble:
            parts.append(_line(self.trouble, "dim"))
        return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    """One line, cut off where the terminal ends. `Text` would leave half a control sequence."""
    return Text(visible(text), style, no_wrap=True, overflow="ellipsis")


def _stage_line(stage: StageView, width: int, now_s: float) -> RenderableType:
    """Name, bar, units, rate and time left; no bar where it leaves no room for the name."""
    seconds = max(now_s - stage.began_s, 1e-9)
    parts = [f"{stage.done:g}" + (f"/{stage.total:g}" if stage.total else ""), stage.unit]
    counts = " ".join(parts).strip() if stage.total or stage.done else ""
    rate = stage.done / seconds
    known = stage.total and rate and seconds > _RATE_FROM_S
    left = (stage.total - stage.done) / rate if stage.total and known else None
    times = [duration(seconds)] + ([f"{duration(left)} left"] if left is not None else [])
    words = Text.assemble(
        (f" {counts}", ""),
        (f"  {rate:.3g}/s" if stage.done and seconds > _RATE_FROM_S else "", "cyan"),
        (f"  {', '.join(times)}", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )
    name = _line(stage.name, "bold")
    if width < MEDIUM:
        return Text.assemble(name, words, no_wrap=True, overflow="ellipsis")
    row = Table.grid(padding=(0, 1))
    for _ in range(3):
        row.add_column(no_wrap=True, overflow="ellipsis")
    row.add_row(name, ProgressBar(stage.total or 0, stage.done, _BAR_WIDTH), words)
    return row


def _rows(look: Look, width: int) -> list[Text]:
    """A heading and a row for each variant. The last cell is cut off where the terminal ends."""
    columns = _columns(look, width)
    cells = [_cells(variant, columns, width) for variant in look.variants]
    cells.insert(0, [Text(title, "bold") for title in ("variant", *columns, "so far")])
    widths = [max(row[i].cell_len for row in cells) for i in range(len(cells[0]) - 1)]
    widths[0] = min(widths[0], _LONGEST_NAME)
    for row in cells:
        for i, (cell, most) in enumerate(zip(row, widths, strict=False)):
            cell.truncate(most, overflow="ellipsis")
            cell.align("right" if i else "left", most)
    return [_joined(row) for row in cells]


def _joined(cells: Sequence[Text]) -> Text:
    row = Text("  ").join(cells)
    row.no_wrap, row.overflow = True, "ellipsis"
    return row


def _columns(look: Look, width: int) -> list[str]:
    if width < MEDIUM:
        return ["p95"]
    scored = width >= WIDEST and any(v.quality.value is not None for v in look.variants)
    return ["requests", "latency p50", "p95", *(["quality"] if scored else [])]


def _cells(variant: VariantView, columns: Sequence[str], width: int) -> list[Text]:
    """The cells of one variant; one that is loaded no more is dim."""
    style = "dim" if variant.is_over else ""
    estimates = {"latency p50": (variant.p50, "ms"), "p95": (variant.p95, "ms")}
    estimates["quality"] = (variant.quality, "share")
    texts = {title: _estimate(*of, width >= WIDE) for title, of in estimates.items()}
    texts["requests"] = str(variant.requests)
    cells = [variant.name, *(texts[title] for title in columns)]
    return [*(Text(cell, style) for cell in cells), _so_far(variant, width)]


def _so_far(variant: VariantView, width: int) -> Text:
    """What the verdict would be, or that it is given, and the objective that decides."""
    word = "open" if variant.decision == "INCONCLUSIVE" else variant.decision
    return Text.assemble(
        (word, f"bold {_COLOURS[variant.decision]}"),
        f"  {variant.reason}" if width >= MEDIUM else "",
    )


def _estimate(value: Estimate, unit: str, with_interval: bool) -> str:
    """A value with its interval; a dash where too little was measured for it."""
    text = quantity(value.value, unit)
    if not with_interval or value.low is None or value.high is None:
        return text
    return f"{text} ({between(quantity(value.low, unit), quantity(value.high, unit))})"


def _footing(look: Look) -> str:
    blocks = f"{look.blocks} block" + ("" if look.blocks == 1 else "s")
    return f"after {blocks}, with 95 % intervals; the verdict comes at the end"
