"""Entry points of the programs `d2l` and `t2l`: a Ctrl-C ends them in one line while they import.

Imports nothing before it is ready for that.
"""

import os


def d2l() -> None:
    """Run the `d2l` command line."""
    try:
        from d2l.commands.main import main

        main()
    except KeyboardInterrupt:
        _stop()


def t2l() -> None:
    """Run the `t2l` command line."""
    try:
        from d2l.commands.main import t2l as run

        run()
    except KeyboardInterrupt:
        _stop()


def _stop() -> None:
    os.write(2, b"stopped; nothing was written\n")
    os._exit(130)  # as a shell says it
