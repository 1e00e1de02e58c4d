"""An OpenAI-compatible server of known behaviour, and a log of what it truly did: the oracle for the load generator.

`python -m loadgen.emulator --help`. Start at `behaviour` (what it is told to do), then `engine` (when tokens come out).
It shares no code with the client: own HTTP, own JSON, own clock readings.
"""
