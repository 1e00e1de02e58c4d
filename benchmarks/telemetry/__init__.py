"""What sampling costs: the sampler's share of a core, and the load generator's loop stalls."""
