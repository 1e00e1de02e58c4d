"""Variants in, live endpoints out: vLLM servers started, watched and stopped.

In: `variant.ServedVariant`s and the section `serve`. Out: `foundation.endpoint.Endpoint`s that have each generated a token.
Start at `hosting` (which variants share a server, and which servers are up together), then `server` (one process).
"""
