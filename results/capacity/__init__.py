"""How much hardware the traffic needs: an engine model, a simulator, a search and a plan.

Comes in: engine records and journals of a run, its slo and prices. Goes out: step-time models of
its variants, the rate that a replica holds with an interval, replicas and their cost.
It is a ladder: `demand`, `model`, `simulation`, `search`, `plan`.
"""
