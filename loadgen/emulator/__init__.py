"""An OpenAI-compatible server of known behaviour, with a log of what it did: the oracle of the
client.

See `python -m loadgen.emulator --help`. Start with `behaviour` (its settings), then `engine` (when
tokens are sent). It shares no code with the client: it has its own HTTP, JSON and clock readings.
"""
