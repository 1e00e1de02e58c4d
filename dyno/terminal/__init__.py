"""What a person sees in a terminal: progress, results, streams and signals."""
