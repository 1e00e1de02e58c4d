"""Parts of a load, made by hand: what `dyno merge` makes of them, and what it refuses."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dyno.cli import app
from dyno.commands.calibrate_model import calibrate_run
from dyno.commands.compare import compare_two
from dyno.commands.dry_run import dry_run_resumed
from dyno.commands.merge import merge_load
from dyno.commands.plan import show_plan
from dyno.commands.report import rebuild
from dyno.commands.run import StoppingRule, resume_run
from dyno.commands.search import SearchFlags, search_file
from dyno.pipeline.merging import merge_runs
from dyno.pipeline.part_runs import read_parts
from foundation.errors import BadInput
from foundation.run.json_files import read_environment
from foundation.run.layout import RunDirectory
from foundation.run.part import PartRecord, write_part
from foundation.run.records import (
    JournalEnd,
    JournalHeader,
    Prompt,
    RequestRecord,
    VariantRecord,
)
from tests.dyno.test_load_flags import made
from tests.results.synthetic import request
from tests.run_files import append_prompts, header, lines, write_block

PLANNED, BLOCKS = 40, 2
END = JournalEnd(end="complete", ended_ns=2 * 10**9, window_end_ns=10**9)


def records(block: int) -> list[RequestRecord]:
    """The whole block's, in the order of their ends."""
    return [request(i, "prompt", i * 25, 80 + block, 40) for i in range(PLANNED)]


def write_load_part(
    folder: Path,
    share: int,
    of: int,
    *,
    slo: str = "500ms",
    identity: str = "load",
    blocks: int = BLOCKS,
    end: JournalEnd | None = END,
    **record: str,
) -> Path:
    """A part of a load of 40 requests/s, in two blocks of a second."""
    run = folder / f"part{share}"
    load = made(rates=["40"], requests=PLANNED * BLOCKS, blocks=BLOCKS, warmup="0s")
    load = load.model_copy(update={"slo": made(rates=["1"], slo=[f"latency_p95={slo}"]).slo})
    run.mkdir(parents=True)
    (run / "experiment.yaml").write_text(load.as_yaml())
    (run / "environment.json").write_text("{}")
    (run / "variants.json").write_bytes(
        msgspec.json.encode([VariantRecord(name="url", what="m", prompt_style="plain", kind="url")])
    )
    append_prompts(run, [])
    place = {"start_at": "2026-12-01T10:00:00Z", "tunedyno": "1", "python": "3.11.9"} | record
    write_part(run, PartRecord(share=share, of=of, gap_s=10.0, **place))
    for block in range(1, blocks + 1):
        head = header(
            variant="url", stage="rate-40", block=block, planned=PLANNED, offered_rate=40.0,
            window_end_ns=10**9, origin_monotonic_ns=share * 10**9, identity=identity,
            workers=share, clock_bound_ns=share * 1_000,
        )  # fmt: skip
        write_block(run, head, records(block)[share - 1 :: of], end)
    return run


def parts_of(folder: Path, of: int) -> list[Path]:
    return [write_load_part(folder, share, of) for share in range(1, of + 1)]


def contents(folders: Sequence[Path]) -> dict[Path, bytes]:
    return {f: f.read_bytes() for folder in folders for f in folder.rglob("*") if f.is_file()}


def journal_of(run: Path, block: int = 1) -> tuple[JournalHeader, list[bytes]]:
    first, *rest = (
        (run / f"load/url/rate-40/block-0{block}.jsonl").read_bytes().splitlines(keepends=True)
    )
    return msgspec.json.decode(first, type=JournalHeader), rest


@settings(max_examples=5, deadline=None)
@given(of=st.integers(1, 7), order=st.randoms())
def test_the_parts_in_any_order_are_the_whole_and_stay(of: int, order: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts, whole = parts_of(Path(folder) / "parts", of), Path(folder) / "whole"
        whole.mkdir()
        order.shuffle(parts)
        before = contents(parts)
        assert merge_runs(read_parts(parts, partial=False), RunDirectory(whole)) == []
        assert contents(parts) == before
        for block in range(1, BLOCKS + 1):
            head, rest = journal_of(whole, block)
            assert rest == [*map(lines, records(block)), lines(END)]
            assert (head.machines, head.workers) == (of, of * (of + 1) // 2)
            assert head.clock_bound_ns == ((2 * of - 1) * 1_000 if of > 1 else None)
            assert head.origin_monotonic_ns == 10**9


def test_a_report_of_the_merge_is_that_of_one_run(tmp_path: Path) -> None:
    parts_of(tmp_path / "parts", 3)
    merge_load([tmp_path / "parts"], tmp_path / "runs", partial=False, as_json=False)
    run = tmp_path / "runs" / "load"
    results = {name: (run / name).read_bytes() for name in ("summary.json", "verdict.json")}
    summary, verdicts = rebuild(run)
    assert {name: (run / name).read_bytes() for name in results} == results
    assert (run / "report.html").is_file() and not (run / "part.json").exists()
    [variant] = summary.variants
    assert variant.stages[0].succeeded == PLANNED * BLOCKS
    assert not any("machine" in reason for reason in summary.validity.reasons)
    assert verdicts.variants[0].decision == "SHIP" or verdicts.variants[0].objectives


@pytest.mark.parametrize(
    "use",
    [
        lambda run: resume_run(run, StoppingRule()),
        lambda run: dry_run_resumed(run, StoppingRule(), None),
        lambda run: search_file(run, run, SearchFlags(max_rate="50")),
        lambda run: calibrate_run(run, (), "1m", run),
    ],
    ids=["resume", "dry run", "search", "model"],
)
def test_one_host_does_not_go_on_with_what_several_sent(
    tmp_path: Path, use: Callable[[Path], object]
) -> None:
    merge_load([*parts_of(tmp_path / "parts", 2)], tmp_path / "runs", partial=False, as_json=False)
    before = contents([tmp_path / "runs"])
    with pytest.raises(BadInput, match="put together from the parts of 2 hosts"):
        use(tmp_path / "runs" / "load")
    assert contents([tmp_path / "runs"]) == before


@pytest.mark.parametrize(
    "use",
    [
        rebuild,
        lambda run: compare_two(run, run, None, None, "table"),
        lambda run: show_plan(run, {"peak_rate": "1"}, (), as_json=False),
        lambda run: resume_run(run, StoppingRule()),
    ],
    ids=["report", "compare", "plan", "resume"],
)
def test_a_part_is_no_run(tmp_path: Path, use: Callable[[Path], object]) -> None:
    part = write_load_part(tmp_path, 3, 8)
    with pytest.raises(BadInput) as error:
        use(part)
    assert str(error.value) == (
        f"{part}: only part 3 of 8 of a load; put all parts together first: dyno merge PART... "
        "(a part can't be resumed, since its time is over)"
    )


def refusal(paths: Sequence[Path], out: Path, *flags: str) -> str:
    """The one line of `dyno merge`."""
    result = CliRunner().invoke(app, ["merge", *map(str, paths), "--out", str(out), *flags])
    assert isinstance(result.exception, BadInput), result.output
    assert not out.exists()
    return str(result.exception)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tunedyno": "2"}, "their version of tunedyno: 1 and 2"),
        ({"python": "3.12.1"}, "their version of Python: 3.11.9 and 3.12.1"),
        ({"start_at": "2026-12-01T11:00:00Z"}, "their start: 2026-12-01T10:00:00Z and 2026"),
        ({"of": 3}, "their parts: 2 and 3"),
        ({"slo": "400ms"}, "slo.latency_p95: 500ms -> 400ms"),
        ({"identity": "other"}, "identity in load/url/rate-40/block-01.jsonl is load and other"),
        ({"share": 1}, "both are part 1 of 2"),
    ],
)
def test_parts_that_are_not_of_one_load(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    one = write_load_part(tmp_path / "one", 1, 2)
    two = write_load_part(tmp_path / "two", **{"share": 2, "of": 2, **change})
    words = refusal([one, two], tmp_path / "runs")
    assert words.startswith(f"{one} and {two}: ") and says in words


def test_parts_that_are_not_all_there(tmp_path: Path) -> None:
    [one, two, three] = parts_of(tmp_path, 3)
    out = tmp_path / "runs"
    assert refusal([one, three], out) == (
        f"{one}, {three}: part 2 of 3 is missing; name it too, or accept what is lost with "
        "--partial"
    )
    assert refusal([tmp_path / "none"], out) == (
        f"{tmp_path / 'none'}: no part of a load, it has no part.json; dyno load --share sends one"
    )
    (two / "variants.json").unlink()
    assert refusal([one, two, three], out) == (
        f"{two / 'variants.json'}: can't be read; copy it from another part, where it is the same"
    )
    (two / "part.json").write_text('{"share": 0}')
    assert refusal([one, two, three], out).startswith(f"{two / 'part.json'}: can't be read (")
    (two / "part.json").write_bytes(
        (three / "part.json").read_bytes().replace(b'"share": 3', b'"share": 4')
    )
    assert "there is no part 4 of 3" in refusal([one, two, three], out)


def test_a_part_that_sent_nothing(tmp_path: Path) -> None:
    parts = [write_load_part(tmp_path, share, 2, blocks=2 - share % 2 * 2) for share in (1, 2)]
    says = f"{parts[0]}: no journal under load/ (it sent nothing); accept what is lost with --p"
    assert refusal(parts, tmp_path / "runs").startswith(says)
    found = read_parts(parts, partial=True)
    assert [part.run.path for part in found.parts] == [parts[1]] and found.missing == [1]


def test_parts_that_are_lost_are_said_and_make_the_run_invalid(tmp_path: Path) -> None:
    """One of three was killed in its second block, one is not there."""
    whole = write_load_part(tmp_path, 1, 3)
    cut = write_load_part(tmp_path, 2, 3, blocks=1)
    own = records(2)[1::3]
    head = msgspec.structs.replace(journal_of(whole, 2)[0], clock_bound_ns=7_000, workers=1)
    file = write_block(cut, head, own[:5], None)
    with file.open("ab") as stream:
        stream.write(lines(own[5])[:30])
    merge_load([whole, cut], tmp_path / "runs", partial=True, as_json=False)
    run = tmp_path / "runs" / "load"
    lost = read_environment(run).requests["url"]
    assert lost == [
        "part 3 of 3 (missing): 13 of its 13 planned requests of block 1 of rate-40 left no record",
        f"part 2 of 3 ({cut}): 8 of its 13 planned requests of block 2 of rate-40 left no record",
        "part 3 of 3 (missing): 13 of its 13 planned requests of block 2 of rate-40 left no record",
    ]
    summary, _ = rebuild(run)
    assert summary.validity.level == "INVALID"
    [reason] = [text for text in summary.validity.reasons if "machines sent to the end" in text]
    assert "not all of 3 machines sent to the end of block 1, 2" in reason
    assert reason.endswith("34 planned requests left no record")
    assert all(any(sentence in note for note in summary.notes) for sentence in lost)
    _, rest = journal_of(run, 2)
    ids = [msgspec.json.decode(line, type=RequestRecord).id for line in rest]
    assert sorted(ids) == sorted([*range(0, PLANNED, 3), 1, 4, 7, 10, 13])


def test_a_part_that_was_interrupted_is_said_and_makes_the_run_invalid(tmp_path: Path) -> None:
    """Ctrl-C on one of two hosts leaves a record of every request, and an end line."""
    whole, stopped = parts_of(tmp_path, 2)
    own = records(2)[1::2]
    last = own[-1]
    last.sent_ns, last.failure, last.done_ns = None, "cancelled", None
    last.chunk_ns, last.chunk_tokens, last.output_tokens = [], [], None
    until_ns = last.scheduled_ns
    end = msgspec.structs.replace(END, end="interrupted", window_end_ns=until_ns)
    write_block(stopped, journal_of(stopped, 2)[0], own, end)
    merge_load([whole, stopped], tmp_path / "runs", partial=False, as_json=False)
    run = tmp_path / "runs" / "load"
    lost = read_environment(run).requests["url"]
    assert lost == [f"part 2 of 2 ({stopped}): it did not send block 2 of rate-40 to its end"]
    joint = msgspec.json.decode(journal_of(run, 2)[1][-1], type=JournalEnd)
    assert (joint.end, joint.window_end_ns) == ("interrupted", until_ns)
    summary, _ = rebuild(run)
    assert summary.validity.level == "INVALID"
    assert any("sent to the end of block 2: the load" in r for r in summary.validity.reasons)


@pytest.mark.parametrize("foreign", [1, 3 + PLANNED])
def test_a_part_with_requests_of_another_share_is_refused(tmp_path: Path, foreign: int) -> None:
    """Request 1 is the second part's; of 40 planned ones none has the number 43."""
    parts = parts_of(tmp_path, 3)
    head, rest = journal_of(parts[0])
    record = request(foreign, "prompt", 500, 80, 40)
    journal = parts[0] / "load/url/rate-40/block-01.jsonl"
    journal.write_bytes(b"".join([lines(head), *rest[:-1], lines(record), rest[-1]]))
    where = "1 request in load/url/rate-40/block-01.jsonl not of part 1 of 3"
    with pytest.raises(BadInput, match=f"{where}, such as {foreign}; send that part again"):
        read_parts(parts, partial=False)


def test_further_turns_of_a_parts_own_sessions_are_its_own(tmp_path: Path) -> None:
    """They have the number of the first turn, and all that are planned on top, again and again."""
    parts = parts_of(tmp_path, 3)
    for part in parts:
        append_prompts(part, [Prompt("turn", "eval", {"plain": []}, after="prompt")])
    head, rest = journal_of(parts[1])
    turn = request(4 + 2 * PLANNED, "turn", 500, 80, 40)
    journal = parts[1] / "load/url/rate-40/block-01.jsonl"
    journal.write_bytes(b"".join([lines(head), *rest[:-1], lines(turn), rest[-1]]))
    assert len(read_parts(parts, partial=False).parts) == 3
