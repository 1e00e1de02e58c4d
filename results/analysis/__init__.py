"""From a run directory to `Summary`: every variant, every stage, every difference to the baseline.

`run_summary` goes over the variants, `variant_summary` over the stages of one, and `stage_summary`
makes the numbers of a stage.
"""

from results.analysis.run_summary import analyse, read_run, summarise

__all__ = ["analyse", "read_run", "summarise"]
