"""Everything that is vLLM's own: options, adapters, memory, sleep mode, metrics, failures."""
