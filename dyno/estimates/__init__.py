"""Estimates of the time of each stage, from earlier stages on this machine."""
