"""Blocks of traffic: sessions paced on a schedule, requests sent and watched, by one process or several."""
