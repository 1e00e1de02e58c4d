"""Which remedies a round tries next, what is expected of them, and what became of it."""
