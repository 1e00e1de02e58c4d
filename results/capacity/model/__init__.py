"""What an engine step takes: steps from records or stamps, fitted, with their uncertainty.

Start reading at `engine_model.py`, then `models_of_run.py`.
"""
