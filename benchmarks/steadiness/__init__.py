"""How often the decision is wrong, on simulated measurements whose truth is known: `make bench-decision`."""
