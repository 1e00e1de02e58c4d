"""What was measured: every metric of a stage, and what a careful person would hold against it."""
