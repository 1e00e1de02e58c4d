"""Experiments made from the flags of `dyno load` and `dyno baseline`: the same pipeline, no file to write."""
