"""One W8A8 checkpoint by the in-process writer, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import quantize
from quantize.config import QuantizeConfig

if __name__ == "__main__":
    source, out = map(Path, sys.argv[1:])
    quantize(ModelRef(source.name, None, source), QuantizeConfig(method="w8a8-int8"), out, Silent())
