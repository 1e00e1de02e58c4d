"""What `dyno doctor` says is here."""

from __future__ import annotations

import re

import pytest

from dyno.commands import doctor
from serve.ray_cluster import RayCluster


def test_without_bitsandbytes_most_methods_quantize(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU machine: eight rows said yes, and the feature above them said no."""
    monkeypatch.setattr(doctor, "_is_installed", lambda package: package != "bitsandbytes")
    features = doctor._features()
    names, here = (list(features.columns[index].cells) for index in (0, 1))
    assert dict(zip(names, here, strict=True))["quantize"] == "yes"
    methods = doctor._quantization()
    rows = zip(methods.columns[0].cells, methods.columns[2].cells, strict=True)
    missing = {str(method) for method, written in rows if "bitsandbytes missing" in str(written)}
    assert missing == {"bnb-nf4", "bnb-int8"}


@pytest.mark.parametrize(
    ("version", "cluster", "line"),
    [
        ("2.60.0", None, "Ray 2.60.0: no cluster is up here"),
        (
            "2.60.0",
            RayCluster(nodes=2, accelerators=16, largest=8),
            "Ray 2.60.0: a cluster of 2 nodes with 16 accelerators",
        ),
        (
            "2.60.0",
            RayCluster(nodes=1, accelerators=0, largest=0),
            "Ray 2.60.0: a cluster of 1 node with 0 accelerators",
        ),
    ],
)
def test_one_line_says_what_there_is_of_ray(
    version: str, cluster: RayCluster | None, line: str
) -> None:
    assert doctor.ray_line(version, cluster) == line


def test_the_line_without_ray_says_how_to_get_it() -> None:
    assert doctor.ray_line(None, None).endswith('pip install "tunedyno[ray]"')


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert re.match(r"Ray [\d.]+: .*(did not answer|could not be asked)", doctor._ray())
