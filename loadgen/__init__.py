"""Workload and endpoint in, a request journal out: concurrent streaming traffic on an honest schedule.

In: an `Endpoint`, a `Stage`, prompts, a seed. Out: one journal a block (`results.records` is its schema).
Start at `arrivals` (when), `block` (one block of traffic, end to end), `transport` (how bytes get stamped).
"""
