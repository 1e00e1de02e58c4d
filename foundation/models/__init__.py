"""Models and adapters on disk: folders, weights, tokenizers and chat templates, checked before they are used."""
