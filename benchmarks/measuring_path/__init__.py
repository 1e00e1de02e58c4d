"""The rig of the measuring path: load generators against the emulator, their stamps against its truth.

`python -m benchmarks.measuring_path.run` (`make bench-loadgen`): client on one core, emulator on the other, runs in turn.
Start at `run` (what is run), `tool` (what a load generator is asked for), `tools` and `executables` (how each is started and
read), `score` (what is made of it).
"""
