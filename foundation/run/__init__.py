"""What a run leaves on disk: its paths, its schemas, and how its files are written and read."""
