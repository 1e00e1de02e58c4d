"""One screen while a run goes on, drawn by a process of its own."""
