"""What the engine record costs a vLLM server."""
