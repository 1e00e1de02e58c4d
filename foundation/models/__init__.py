"""Models and adapters on disk, and their checks: weights, tokenizers and chat templates."""
