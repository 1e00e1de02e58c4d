"""The highest rate that keeps the SLO, from probes that were measured.

Start reading at `search.py`.
"""
