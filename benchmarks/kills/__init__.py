"""What is left of a run when one of its processes is killed at a random moment, and whether `--resume` makes it whole.

Start at `run`: one command, a table of kills. `rig` starts, kills and examines; `tests/dyno/test_kills.py` uses it with a
stand-in for vLLM.
"""
