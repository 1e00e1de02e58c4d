"""Machines that send a share of a block: their clocks, their processes, and Ray to reach them."""
