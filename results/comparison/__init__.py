"""Differences: variants against the baseline, and what the blocks there are can show."""
