"""Journals in, a decision out: metrics, statistics, quality, cost, comparison, verdict, capacity, report.

In: a run directory with journals (`records` is their schema). Out: summary.json, verdict.json, plan.json, report.html, report.md.
Everything but `journal` and `report` is a pure function over arrays and frozen records.
Start at `records`, then `metrics` (what every number is), then `verdict` (what is made of them).
"""
