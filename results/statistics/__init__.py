"""Estimates and bounds with known error rates, as pure functions over arrays."""
