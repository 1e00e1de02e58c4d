"""The questions of a block, and the datasets that their prompts come from."""
