"""The stages of an experiment: prepare, train, make checkpoints, serve and measure, decide."""
