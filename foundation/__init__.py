"""What every room stands on: units, configuration sections, errors, endpoints, progress.

Nothing here knows training, serving, load or statistics, and nothing here imports a room.
Start at `units` (how "500ms" becomes a number) and `errors` (what each exit code means).
"""
