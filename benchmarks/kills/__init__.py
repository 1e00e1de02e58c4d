"""What a run leaves when one of its processes is killed at a random moment and then resumed.

Start at `run`: one command, a table of kills. `rig` starts, kills and examines runs;
`tests/dyno/test_kills.py` uses it with a stand-in for vLLM.
"""
