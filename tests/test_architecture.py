"""The walls between the rooms, and what an install without extras must not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_walls_between_packages_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_help_and_loading_a_url_import_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "vllm", "pyarrow", "pandas", "scipy.stats")
    code = (
        "import sys, dyno.cli, dyno.measure, dyno.quick, loadgen, serve, finetune, quantize, results\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_help_reads_no_configuration_library() -> None:
    code = "import sys, dyno.cli; print([name for name in ('pydantic', 'numpy', 'aiohttp', 'yaml') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
