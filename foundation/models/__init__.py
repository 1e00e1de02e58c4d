"""Models and adapters on disk: folders, weights, tokenizers and chat templates, and their checks."""
