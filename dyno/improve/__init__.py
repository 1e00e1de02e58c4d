"""Rounds of remedies: choose them, build and measure their variants, and learn from the effects."""
