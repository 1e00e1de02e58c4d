"""The section "Highest rate" of report.html and report.md."""

from __future__ import annotations

from pathlib import Path

from foundation.run.json_files import write_json
from foundation.run.layout import SEARCH_FILE
from results.capacity.search.probe import ProbeShare, RateProbe, ShareLimit
from results.capacity.search.record import CapacitySearch, capacity_search, variant_search
from results.capacity.search.search import Search
from results.report.capacity.searched import search_section, search_words, section, words
from results.report.capacity.table import Fact
from results.report.page import html, markdown
from results.summary import Summary, Verdicts
from tests.results.test_report_page import EVIL, Page, make_bare

LIMITS = [ShareLimit("ttft_p95", 0.05, 500.0, "500ms"), ShareLimit("error_rate", 0.01, None, "1%")]


def probe(rate: float, slow: int, doubt: str | None = None) -> RateProbe:
    """A probe of 1,000 requests; none failed."""
    shares = {"ttft_p95": ProbeShare(slow, 1_000, 1.0), "error_rate": ProbeShare(0, 1_000, 1.0)}
    return RateProbe(rate, rate, shares, None, rate, doubt)


def searched(name: str = "int8") -> CapacitySearch:
    """One variant whose capacity is between 20 and 23, and one whose server failed at once."""
    probes = {"search-01": probe(50.0, 900), "search-02": probe(30.0, 300, "late"),
              "search-03": probe(23.0, 200), "search-04": probe(20.0, 5)}  # fmt: skip
    search = Search.up_to(50.0, LIMITS)
    ends = search.cut_short(list(probes.values()), "its server died")
    nothing = search.cut_short([], "it did not start")
    variants = [
        variant_search(name, "", ends, probes, LIMITS, None),
        variant_search("gone", "", nothing, {}, LIMITS, None),
    ]
    return capacity_search("n", 50.0, LIMITS, ["slo.goodput does not count"], variants)


def pages(tmp_path: Path, search: CapacitySearch | None) -> tuple[str, str]:
    summary = make_bare(
        Summary(schema_version=1, name="n", baseline="base", metrics={}, variants=[], notes=[])
    )
    verdicts = Verdicts(
        schema_version=1, name="n", baseline="base", recommended=None, headline="h", variants=[]
    )
    file = tmp_path / SEARCH_FILE
    if search is None:
        file.unlink(missing_ok=True)
    else:
        write_json(search, file)
    page = html(tmp_path, summary, verdicts, None, {}, [])
    return page, markdown(summary, verdicts, None, words(tmp_path))


def test_the_ends_stand_side_by_side_and_an_absent_one_has_its_reason() -> None:
    table = search_words(searched()).table
    rows = {row.label: row.cells for row in table.rows}
    assert rows["Holds"] == [Fact("20.0"), Fact("—", note=1)]
    assert rows["Fails at"] == [Fact("23.0"), Fact("—", note=2)]
    assert rows["Requests"] == [Fact("4,000"), Fact("0")]
    assert "Expected by its model" not in rows
    assert table.notes == ["no rate was shown to hold", "no rate was shown to fail"]


def test_a_figure_has_each_probe_at_the_share_over_each_limit() -> None:
    [(name, plot)] = search_section(searched(), {"int8": 0}).plots
    assert name == "int8"
    assert "at 23 requests/s measured TTFT over 500ms 20.0 %" in plot
    assert "at 20 requests/s measured Error rate 0" in plot
    assert plot.count("does not count: late") == 2
    assert "at 50 requests/s" not in plot  # far beyond the rate that failed


def test_page_and_markdown_say_what_the_search_showed(tmp_path: Path) -> None:
    page, text = pages(tmp_path, searched())
    assert "search" in Page(page).ids()
    for said in (
        "holds 20 requests/s and fails at 23 requests/s; the search did not end",
        "goodput",
    ):
        assert said in page and said in text
    assert all('id="search"' not in each for each in pages(tmp_path, None))


def test_a_variants_name_is_text(tmp_path: Path) -> None:
    page, text = pages(tmp_path, searched(EVIL))
    assert Page(page).shown.count(EVIL) >= 3 and len(Page(page).scripts) == 1
    assert "<script>" not in text


def test_a_damaged_file_is_named_and_costs_only_its_section(tmp_path: Path) -> None:
    pages(tmp_path, None)
    (tmp_path / SEARCH_FILE).write_text("{")
    said = words(tmp_path)
    assert said is not None and "search.json: can't be read" in said.sentences[0][1]
    page = section(tmp_path, {})
    assert page is not None and page.plots == []
