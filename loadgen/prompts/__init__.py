"""What is asked: questions of a block, and datasets that prompts are made from."""
