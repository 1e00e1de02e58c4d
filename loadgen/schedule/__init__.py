"""When requests go out: times as pure functions of stage, seed and block."""
