"""Quantized checkpoints written tensor by tensor, a file a format."""
