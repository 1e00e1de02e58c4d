"""Journals in, a decision out: measures, comparison, decision, report.

In: a run directory with journals (`foundation.run` has their schema). Out: summary.json,
verdict.json, plan.json, report.html, report.md. `analysis` and `report` read and write files; the
rest are pure functions over arrays and frozen records. Start at `metrics` (what every number is),
then `analysis`, then `decision.verdict` (the verdict).
"""
