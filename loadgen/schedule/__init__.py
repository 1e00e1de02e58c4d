"""The times of requests, as pure functions of stage, seed and block."""
