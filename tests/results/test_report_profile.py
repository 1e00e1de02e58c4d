"""The report's section on the last profile of a run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from foundation.format import ABSENT
from results.profile.breakdown import breakdown
from results.profile.comparison import compare
from results.profile.record import Profile
from results.profile.timeline import divide
from results.profile.trace import read_trace
from results.report.profile import section
from tests.results.profiled import FOLDER, TWO_STEPS, written


def write_profile(run: Path) -> Profile:
    """The profile of a real layer with an adapter against two steps of known times."""
    known = divide(read_trace(written(run, *TWO_STEPS)))
    layer = divide(read_trace(FOLDER / "lora-layer.trace.json.gz"))
    profiles = [breakdown("tuned", "cpu", layer), breakdown("merged", "cpu", known)]
    profiles = [msgspec.structs.replace(p, no_roofline="it has experts") for p in profiles]
    profile = Profile(
        experiment="e",
        stage="rate-4",
        iterations=64,
        processor="AMD EPYC",
        variants=profiles,
        comparison=compare(*profiles),
    )
    (run / "profile").mkdir()
    (run / "profile" / "profile.json").write_bytes(msgspec.json.encode(profile))
    return profile


def test_a_run_without_a_profile_has_no_section(tmp_path: Path) -> None:
    assert section(tmp_path) is None


def test_groups_shares_and_the_difference_are_shown(tmp_path: Path) -> None:
    profile = write_profile(tmp_path)
    shown = section(tmp_path)
    assert shown is not None
    assert shown.columns == ["tuned", "share", "merged", "share", "difference"]
    rows = dict(shown.rows)
    tuned = profile.variants[0]
    lora = next(g for g in tuned.groups if g.group == "lora")
    assert rows["LoRA"][:2] == [f"{lora.ms_per_step:.2f}", f"{lora.share:.1%}"]
    assert rows["LoRA"][2:4] == [ABSENT, ABSENT] and rows["LoRA"][4] == f"+{lora.ms_per_step:.2f}"
    assert rows["attention"][2] == "0.01"  # 20 µs in two steps, by hand
    assert shown.rows[-1][0] == "a step"
    assert rows["a step"][2] == "0.15"  # 300 µs, two steps
    assert "tuned has no roofline: it has experts" in shown.sentences
    assert any("the steps are not alike" in sentence for sentence in shown.sentences)


def test_a_damaged_profile_is_told_and_breaks_nothing(tmp_path: Path) -> None:
    write_profile(tmp_path)
    file = tmp_path / "profile" / "profile.json"
    for broken in (file.read_bytes()[:-50], file.read_bytes().replace(b'"steps":2', b'"steps":0')):
        file.write_bytes(broken)
        shown = section(tmp_path)
        assert shown is not None and not shown.rows
        assert "profile/profile.json" in shown.sentences[0]
