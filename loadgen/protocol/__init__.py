"""Bytes to meaning: the OpenAI API, server-sent events, and the answers they carry."""
