"""Measures a load that comes from several machines."""
