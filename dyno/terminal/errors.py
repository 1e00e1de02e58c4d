"""Prints an error as one clear line on standard error, and picks the exit code."""

from __future__ import annotations

import traceback

from foundation.errors import DynoError, Exit, refused_by_system
from foundation.printable import printable
from foundation.secrets import hide_keys
from foundation.wrong_values import words_for


def explain(error: BaseException, *, debug: bool) -> int:
    """Prints what went wrong in one line, with `debug` the traceback too. Returns the exit code."""
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return Exit.INTERRUPTED
    if isinstance(error, BaseExceptionGroup):  # several tasks failed: the first ended them all
        return explain(error.exceptions[0], debug=debug)
    if callable(show := getattr(error, "show", None)):  # click's own message for a wrong option
        message = words_for(str(getattr(error, "message", "")))
        vars(error).update(message=printable(hide_keys(message)))
        show()
        return Exit.BAD_INPUT
    known = refused_by_system(error) if isinstance(error, OSError | RuntimeError) else error
    if isinstance(known, DynoError):
        fail(str(known), getattr(known, "detail", ""), error if debug else None)
        return known.exit_code
    message = f"{type(error).__name__}: {error} (this is a fault of dyno; --debug shows where)"
    fail(message, "", error if debug else None)
    return Exit.SYSTEM_FAILED


def fail(message: str, detail: str = "", traced: BaseException | None = None) -> None:
    """Prints an error's message, lines of a log and a traceback on standard error."""
    from dyno.terminal.progress import SafeConsole

    console = SafeConsole(stderr=True)
    console.print("error:", style="bold red", end=" ")
    console.print(hide_keys(" ".join(message.splitlines())), soft_wrap=True)
    if detail:
        console.print(hide_keys(detail.rstrip()), style="dim", soft_wrap=True)
    if traced is not None:  # without a frame, which could break a key in two and hide it from us
        console.print(hide_keys("".join(traceback.format_exception(traced))), soft_wrap=True)
