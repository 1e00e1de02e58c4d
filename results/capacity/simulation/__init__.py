"""What becomes of a demand on replicas, and the rate that one of them holds.

Start reading at `simulator.py`, then `held_rate.py`.
"""
