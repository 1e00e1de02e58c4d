"""The rig of the measuring path: load generators against the emulator, stamps against its truth.

`python -m benchmarks.measuring_path.run` (`make bench-loadgen`) pins the client to one core and the
emulator to another, and lets the tools take turns. `run` is the entry point, `tool` the load and
the interface of a tool, `tools` and `executables` start and read each one, `score` computes the
errors.
"""
