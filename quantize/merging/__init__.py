"""Adapters merged into their base: the check of the pair, the merge, and the check of the written files."""
