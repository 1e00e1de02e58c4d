"""Answers as text: normal forms, tokens, numbers and patterns that scorers compare."""
