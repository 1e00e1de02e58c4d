"""The rig of the measuring path: load generators against the emulator, their stamps against its truth.

`python -m benchmarks.measuring_path.run` (`make bench-loadgen`): client on one core, emulator on the other, runs in turn.
Start at `run` (what is run), `tools` (how each load generator is started and read), `score` (what is made of it).
"""
