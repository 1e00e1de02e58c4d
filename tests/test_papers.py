"""The papers of the repository: the licence, the targets of make, and what the pages refer to."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("foundation", "finetune", "quantize", "serve", "loadgen", "results", "dyno")
# Of https://www.apache.org/licenses/LICENSE-2.0.txt
APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"

PAGES = sorted(
    page
    for folder in (".", "docs", "examples", "benchmarks/measuring_path")
    for page in (ROOT / folder).glob("*.md")
)
# A file or folder of the repository between backticks, stars allowed; a symbol may follow a colon.
REPOSITORY_PATH = re.compile(
    rf"`((?:{'|'.join(PACKAGES)}|docs|tests|examples|benchmarks|requirements)"
    r"/[\w./*-]*(?:/|\.\w+))(?::(\w+))?`"
)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page: Path) -> list[str]:
    """Links of a page to nothing, files that are not there, and names that a file does not have."""
    text = page.read_text(encoding="utf-8")
    targets = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (
            target.exists() and (not anchor or anchor in headings(target))
        ):
            targets.append(link)
    for name, symbol in REPOSITORY_PATH.findall(text):
        files = list(ROOT.glob(name))
        if not files or (
            symbol and not re.search(rf"\b{symbol}\b", files[0].read_text(encoding="utf-8"))
        ):
            targets.append(f"{name}:{symbol}")
    return targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_refers_to_is_there(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_page_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n[a](none.md) [b](#a-title) [c](#b) [d](page.md#a-title)\n"
        "`results/none.py` `results/summary.py:Estimate` `results/summary.py:Nobody` `loadgen/*.py`"
    )
    assert broken(page) == ["none.md", "#b", "results/none.py:", "results/summary.py:Nobody"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
    assert (ROOT / "docs" / "report.png").stat().st_size < 300_000


def test_the_readme_shows_the_run_of_the_page_on_the_demo() -> None:
    """Line by line, and the examples take as long as that page says."""
    readme, page, examples = (
        (ROOT / name).read_text(encoding="utf-8")
        for name in ("README.md", "docs/demo.md", "examples/README.md")
    )
    demo = readme.partition("## What the demo shows")[2].partition("\n## ")[0]
    lines = demo.split("```")[1].strip("\n").splitlines()
    assert lines and [line for line in lines if line not in page.splitlines()] == []
    rows = re.findall(r"^\| \[news-topics(?:-quick)?\].*$", examples, re.M)
    times = [re.findall(r"\d+ min \d+ s", text) for text in (demo, *rows)]
    assert [len(each) for each in times] == [2, 1, 1]
    assert {time for each in times for time in each} <= set(re.findall(r"\d+ min \d+ s", page))


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
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    explained = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert set(explained) == targets
    named = [
        target
        for page in PAGES
        for target in re.findall(r"`make ([a-z][a-z-]*)", page.read_text(encoding="utf-8"))
    ]
    assert set(named) <= targets
