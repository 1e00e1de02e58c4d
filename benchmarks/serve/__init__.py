"""Our servers against vLLM's own defaults. Start at `run`."""
