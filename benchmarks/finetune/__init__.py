"""Training speed against SFTTrainer's own defaults. Start at `run`; `arm` is what each of its processes does."""
