"""Telemetry of the servers that are measured, four times a second, on the journals' clock.

A child process samples, so that the load generator's event loop never waits for it. Start at
`telemetry` (the parent's side) and `sampler` (the child). The numbers come from `metrics_page` (the
server's own), `process_tree`, `host`, `gpus` and `rapl`.
"""

from serve.telemetry.sampled import SampledServer
from serve.telemetry.telemetry import Telemetry

__all__ = ["SampledServer", "Telemetry"]
