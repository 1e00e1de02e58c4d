"""A stand-in for vllm-router: it passes requests on, in turns."""
