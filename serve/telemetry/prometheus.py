"""Reads the numbers of a telemetry sample from a server's `/metrics` (Prometheus' text format)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serve.telemetry.engines import LORA, LORA_LABELS, NAMES, SERIES

_LARGEST = (2**63 - 1) // 2
"""Parquet holds 64-bit integers; their limit itself is no exact float, half of it is safe."""
_LONGEST_LINE = 10_000


@dataclass
class Reading:
    """The fields of a `TelemetrySample`, and the metrics that were left out, each with why."""

    fields: dict[str, int | float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def read_metrics(text: str) -> Reading:
    """What a page of metrics says, summed over label sets (engines); a share is their mean.

    Leaves out a metric with a value that is no number, negative, too large for a file, or there
    twice for the same labels. Other metrics' lines are not parsed: a page has hundreds.
    """
    reading = Reading()
    samples: defaultdict[str, dict[tuple[tuple[str, str], ...], Sample]] = defaultdict(dict)
    for name, line in _known_lines(text):
        sample = _parsed(line)
        if sample is None:
            reading.refused[name] = "can't be parsed"
            continue
        labels = tuple(sorted(sample.labels.items()))
        if labels in samples[name]:
            reading.refused[name] = "is there twice"
        elif not 0 <= sample.value <= _LARGEST:
            reading.refused[name] = f"is {sample.value:g}"
        samples[name][labels] = sample
    for name in samples.keys() - reading.refused.keys():
        fields = _fields(name, [*samples[name].values()])
        if max(fields.values(), default=0) > _LARGEST:
            reading.refused[name] = f"is {max(fields.values()):g} in all"
        else:
            reading.fields |= fields
    return reading


def _known_lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        name = line.partition("{")[0].partition(" ")[0].partition("\t")[0]
        if name in NAMES:
            yield name, line


def _parsed(line: str) -> Sample | None:
    """The sample of a line; None for what is none."""
    if len(line) > _LONGEST_LINE:  # the parser's time grows with the square of it
        return None
    try:
        (family,) = text_string_to_metric_families(line)
        (sample,) = family.samples
    except (ValueError, IndexError):
        return None
    return sample


def _fields(name: str, samples: list[Sample]) -> Mapping[str, int | float]:
    if name == LORA:
        labels = max(samples, key=lambda sample: sample.value).labels
        return {
            field: sum(bool(adapter) for adapter in labels.get(label, "").split(","))
            for field, label in LORA_LABELS.items()
        }
    fields: dict[str, int | float] = {}
    for series in SERIES[name]:
        values = [
            each.value
            for each in samples
            if not series.label or each.labels.get(series.label) == series.of
        ]
        if not values:
            continue
        fields[series.field] = sum(values) / len(values) if series.is_share else int(sum(values))
    return fields
