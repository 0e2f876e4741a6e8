"""Entry points of the programs `d2l` and `t2l`: a Ctrl-C ends them in one line while they import.

Imports nothing of the package before it is ready for that.
"""

import atexit
import gc
import os
from collections.abc import Callable

#: Objects between two collections of garbage at the start, and the number of such collections.
_MANY, _TIMES = 250_000, 4


def d2l() -> None:
    """Run the `d2l` command line."""
    _run("main")


def t2l() -> None:
    """Run the `t2l` command line."""
    _run("t2l")


def _run(name: str) -> None:
    """Run a command line, and end without the second in which Python tidies up its memory."""
    _collect_rarely()
    try:
        from d2l.commands import main

        run: Callable[[], None] = getattr(main, name)
        try:
            run()
        except SystemExit as end:
            atexit._run_exitfuncs()
            main.leave(int(end.code or 0))
    except KeyboardInterrupt:
        os.write(2, b"stopped; nothing was written\n")
        os._exit(130)  # as a shell says it


def _collect_rarely() -> None:
    """Collect garbage rarely at the start: imports and tokenizers make a million objects that stay,
    and collections would take a fifth of the time."""
    usual, left = gc.get_threshold(), _TIMES

    def count(phase: str, _info: dict[str, int]) -> None:
        nonlocal left
        left -= phase == "stop"
        if not left:
            gc.callbacks.remove(count)
            gc.set_threshold(*usual)
            gc.freeze()

    gc.set_threshold(_MANY)
    gc.callbacks.append(count)
