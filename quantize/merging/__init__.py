"""Adapters folded into their base: what belongs together, the merge, and the check of what it wrote."""
