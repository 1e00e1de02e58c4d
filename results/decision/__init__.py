"""Objectives held against their limits: the verdict, its advice, and the capacity that follows."""
