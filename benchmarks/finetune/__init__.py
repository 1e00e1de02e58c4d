"""Training speed against SFTTrainer's own defaults and the plain Trainer's. Start at `run`; `arm` is what each process does."""
