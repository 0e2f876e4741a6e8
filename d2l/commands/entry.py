"""Entry points of the programs `d2l` and `t2l`: a Ctrl-C ends them in one line while they import.

Imports nothing of the package before it is ready for that.
"""

import atexit
import os
from collections.abc import Callable


def d2l() -> None:
    """Run the `d2l` command line."""
    _run("main")


def t2l() -> None:
    """Run the `t2l` command line."""
    _run("t2l")


def _run(name: str) -> None:
    """Run a command line, and end without the second in which Python tidies up its memory."""
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
