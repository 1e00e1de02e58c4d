"""Adapter and base in, a checkpoint out: merge in full precision, then quantize as vLLM serves it.

In: a base model, an adapter, a method. Out: a checkpoint folder with `recipe.json`: from what, how, with which versions, sizes.
Start at `merge`, then `methods`.
"""
