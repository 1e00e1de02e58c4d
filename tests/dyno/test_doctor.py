"""What `dyno doctor` says is here."""

from __future__ import annotations

import pytest

from dyno.commands import doctor


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
