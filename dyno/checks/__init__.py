"""What is checked of models before anything slow starts."""
