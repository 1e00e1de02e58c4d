"""What an experiment makes and measures, as a graph of artifacts with identities, and what of it a run has."""
