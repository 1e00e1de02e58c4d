"""What becomes of the journals of a variant whose server failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.pipeline.failures import ends_without_server, put_aside_last
from foundation.run.layout import RunDirectory
from foundation.run.records import JournalEnd, RequestRecord
from tests.run_files import header, write_block


def write(run: RunDirectory, end: str, *failures: str | None) -> Path:
    """A journal whose requests have these failures."""
    head = header(variant="a", concurrency=1, planned=6)
    records = [
        RequestRecord(id=i, prompt_id="0", scheduled_ns=i, failure=failure)
        for i, failure in enumerate(failures)
    ]
    return write_block(run.path, head, records, JournalEnd(end=end, ended_ns=9, window_end_ns=9))


@pytest.mark.parametrize(
    ("end", "failures", "stays"),
    [
        ("complete", [None, None, "reset"], False),
        ("complete", ["reset", None, None, None, None], True),
        ("complete", [None] * 6, True),
        ("interrupted", [None, "reset"], True),
    ],
)
def test_a_whole_block_whose_last_requests_failed_is_measured_again(
    tmp_path: Path, end: str, failures: list[str | None], stays: bool
) -> None:
    """One that was interrupted is no whole block, and stays as evidence."""
    run = RunDirectory(tmp_path)
    file = write(run, end, *failures)
    put_aside_last(run, "a")
    put_aside_last(run, "of which there is nothing")
    assert file.exists() is stays
    assert file.with_suffix(".jsonl.cut").exists() is not stays


@pytest.mark.parametrize(
    ("failures", "is_in_doubt"),
    [
        ([None, *["timeout_first"] * 4], True),
        (["timeout_first"] * 4 + [None], False),
        (["reset", "reset", "connect", "connect"], True),
        ([None, *["connect"] * 4, *["cancelled"] * 9], True),
        (["http_5xx"] * 4, False),
        (["cancelled"] * 4, False),
    ],
)
def test_where_the_last_requests_that_were_sent_found_no_server_it_is_asked(
    tmp_path: Path, failures: list[str | None], is_in_doubt: bool
) -> None:
    journal = write(RunDirectory(tmp_path), "complete", *failures)
    assert ends_without_server(journal) is is_in_doubt
