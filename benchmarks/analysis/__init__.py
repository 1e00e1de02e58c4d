"""Time and memory of `dyno report` on a run of any size: `make bench-analysis`."""
