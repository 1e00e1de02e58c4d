"""An OpenAI-compatible server of known behaviour, with a log of what it did: the oracle of the
client.

See `python -m loadgen.emulator --help`. Start with `behaviour` (its settings), then `engine` (when
tokens are sent), or `plant` and `scheduler` for an engine with steps, which `virtual_server` runs
in virtual time. It shares no code with the client but what lies in `foundation`: it has its own
HTTP, JSON and clock readings.
"""
