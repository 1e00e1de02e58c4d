"""Checks of models and chat templates before anything slow starts."""
