"""Benchmarks and rigs of this project: each folder has its own entry point."""
