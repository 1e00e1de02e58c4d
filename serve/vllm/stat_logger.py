"""The entry point `tunedyno` of vLLM's stat loggers; only vLLM imports this file."""

from __future__ import annotations

from vllm import __version__
from vllm.v1.metrics.loggers import AggregateStatLoggerBase

from serve.vllm.engine_record import EngineRecord

# What vLLM's class leaves open and ours lacks, as a later vLLM may, does nothing.
_OPEN = {
    name: lambda *args, **kwargs: None
    for name in AggregateStatLoggerBase.__abstractmethods__
    if not hasattr(EngineRecord, name)
}
StatLogger = type(
    "StatLogger",
    (EngineRecord, AggregateStatLoggerBase),
    {"source": f"vLLM {__version__}", **_OPEN},
)
