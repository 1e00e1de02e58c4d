from __future__ import annotations

import pytest

from results.report import write
from tests.results.html_page import Made, Page
from tests.results.report_run import PROVENANCE, make_run, measured_of


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run with its report. No test changes it."""
    run = tmp_path_factory.mktemp("run")
    summary, verdicts, plan = make_run(run)
    (run / "experiment.yaml").write_text("name: news-topics\nbaseline: base\n")
    write(run, summary, verdicts, plan, PROVENANCE, measured_of(run, summary))
    return run, summary, verdicts, plan


@pytest.fixture(scope="session")
def html(made: Made) -> str:
    return (made[0] / "report.html").read_text()


@pytest.fixture(scope="session")
def page(html: str) -> Page:
    return Page(html)
