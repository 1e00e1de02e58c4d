"""The graph of what an experiment makes and measures, with an identity for each artifact."""
