"""How long, and how much memory, `dyno report` takes on a run of any size: `make bench-analysis`."""
