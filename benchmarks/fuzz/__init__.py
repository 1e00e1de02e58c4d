"""Bytes that no server should send, and files that no run should leave, by the million: `make fuzz`.

`targets` says what must hold of any input, `reference` is the independent judge, `harness` lets atheris look for an input that
breaks it, `run` spreads a number of inputs over the targets.
"""
