"""Where an engine step's time goes: traces of vLLM's torch profiler in, times by group out.

Start at `trace` (events of the file), `timeline` (self times, host and idle), `groups` (which
operator belongs to which group), `breakdown` (a variant's times), `comparison` (two variants).
`roofline` holds the bytes and FLOPs of the steps against the machine's limits.
"""
