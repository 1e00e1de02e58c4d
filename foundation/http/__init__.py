"""The address of an API, and how every part of dyno connects to it."""
