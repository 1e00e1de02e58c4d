"""Where an API answers, and how every part of dyno connects to it."""
