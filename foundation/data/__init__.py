"""Data files in, examples out: one reader a format, one meaning a line."""
