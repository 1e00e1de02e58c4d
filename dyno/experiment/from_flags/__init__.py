"""Makes experiments from the options of `dyno load` and `dyno baseline`; no file is needed."""
