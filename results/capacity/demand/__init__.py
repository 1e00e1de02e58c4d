"""The requests that are planned for: when they come, and how long they are."""
