"""Random runs: an independent checker compares the product's conclusions with the journals."""
