"""Quantization that learns from data, by llm-compressor in an environment of its own."""
