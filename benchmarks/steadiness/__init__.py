"""How often the check for a growing queue is wrong, on simulated queues of known load."""
