"""One bar on the screen: ours."""

from __future__ import annotations

import logging


def quiet_libraries() -> None:
    """Turn off the progress bars of transformers, and bitsandbytes' remark that an optional kernel is not installed."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
