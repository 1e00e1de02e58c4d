"""The command line and the experiment: the one package that knows all the others.

In: `experiment.yaml`. Out: a run directory. Start at `cli` (the commands), `experiment` (the file)
and `pipeline` (the stages of a run).
"""
