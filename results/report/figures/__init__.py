"""The report's figures: arrays and estimates in, one static SVG out. Pure, and the same bytes from the same numbers."""
