"""Child processes that import only what is installed, and end with their parent."""
