"""Sends blocks of traffic, by one process or several: pacing, sessions, requests, deadlines."""
