"""Runs made by chance, and what the product says of them held against the journals by a checker with code of its own."""
