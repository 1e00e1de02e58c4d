"""Merges adapters into their base: the check of the pair, the merge, the check of its files."""
