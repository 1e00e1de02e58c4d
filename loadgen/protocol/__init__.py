"""Turns bytes into meaning: the OpenAI API, server-sent events, and the answers in them."""
