"""Millions of bytes that no server should send, and files that no run should leave: `make fuzz`.

`targets` states what holds for any input, `reference` is the independent judge, `harness` lets
atheris search for an input that breaks it, `run` spreads a number of inputs over the targets.
"""
