"""Receives the traces of servers that somebody else runs, and keeps their requests' times."""
