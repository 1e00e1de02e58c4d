"""The capacity plan in the report: its sections, tables and figures."""
