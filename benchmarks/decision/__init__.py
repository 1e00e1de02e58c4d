"""Error rates of the decision on simulated measurements of known truth: `make bench-decision`."""
