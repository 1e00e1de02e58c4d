from __future__ import annotations

import compileall
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
ROOMS = ("foundation", "finetune", "quantize", "serve", "loadgen", "results", "dyno")

# A busy machine is no failure.
# A run that lands or rejects a change draws the same examples each time; any other draws new ones.
settings.register_profile("untimed", deadline=None)
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "untimed"))

# A background process of a script ignores SIGINT, and SIGHUP under nohup. Children of tests would
# inherit that, and tests send them both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """Compiles our modules once: without bytecode files, each process of a test would repeat it."""
    if not hasattr(config, "workerinput"):  # xdist's workers start after this process has done it
        for room in ROOMS:
            compileall.compile_dir(ROOT / room, quiet=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that one worker has it while the other does the rest."""
    items.sort(key=lambda item: item.path.name != "test_whole_pipeline.py")
