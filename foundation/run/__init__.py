"""What a run leaves on disk: where it lies, its schemas, and how it is written and read back."""
