from __future__ import annotations

import compileall
import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
ROOMS = ("foundation", "finetune", "quantize", "serve", "loadgen", "results", "dyno")
# The first worker of three gets the first and the fourth: of these two, each fills two cores with
# servers.
FIRST = ("test_whole_pipeline.py", "test_url.py", "test_resume.py", "test_hosting.py")

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
    """The longest files first: one worker has them while the others do the rest."""
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_collection_finish() -> None:
    """Takes all that collecting imported out of garbage collection: it lives as long as we do."""
    gc.collect()
    gc.freeze()
