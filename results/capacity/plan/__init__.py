"""Replicas, cost and risk for the traffic, side by side for all variants.

Start reading at `plan.py`; what it writes is in `capacity_plan.py`.
"""
