"""The papers of the repository: the licence, and a Makefile that explains itself."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("foundation", "finetune", "quantize", "serve", "loadgen", "results", "dyno")
# Of https://www.apache.org/licenses/LICENSE-2.0.txt
APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_licence_is_the_one_that_the_package_names() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])


def test_every_package_says_that_it_is_typed() -> None:
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").is_file()] == []


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    targets = set(" ".join(re.findall(r"^\.PHONY:(.*)$", makefile, re.M)).split())
    rules = set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.M))
    assert targets == rules
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    explained = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert set(explained) == targets
