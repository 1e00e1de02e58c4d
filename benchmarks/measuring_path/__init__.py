"""The rig of the measuring path: load generators against the emulator, their stamps against its truth.

`python -m benchmarks.measuring_path` (or `make bench-loadgen`): the client on one core, the emulator on the other, runs in turn.
Start at `__main__` (what is run), `tools` (how each load generator is started and read), `score` (what is made of it).
"""
