"""Stands in for vLLM in tests of what becomes of its processes: put its folder on PYTHONPATH."""
