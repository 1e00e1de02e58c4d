"""The report's figures: each turns arrays and estimates into one static SVG.

They are pure functions, and the same numbers give the same bytes.
"""
