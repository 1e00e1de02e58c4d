"""The in-process W8A8 writer against llm-compressor's one-shot. Start at `run`; `arm` is what each of our processes does."""
