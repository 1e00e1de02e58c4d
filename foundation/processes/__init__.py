"""Child processes that import only installed code and end with their parent."""
