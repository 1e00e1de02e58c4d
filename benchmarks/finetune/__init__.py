"""Training speed against SFTTrainer's defaults and the plain Trainer's; start at `run`."""
