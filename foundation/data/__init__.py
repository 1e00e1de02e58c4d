"""Reads data files into examples: one reader for each format, one meaning for each line."""
