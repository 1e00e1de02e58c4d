"""Silences the libraries' own progress bars."""

from __future__ import annotations

import logging


def quiet_libraries() -> None:
    """Turn off transformers' progress bars and bitsandbytes' remark on a missing kernel."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
