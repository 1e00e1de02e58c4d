"""The in-process W8A8 writer against llm-compressor's one-shot; start at `run`."""
