"""Line that names the work of a command while it prints nothing: on a terminal, on stderr."""

import logging
import shutil
import sys
import threading
import time

from d2l.files.printable import short_line

#: Seconds without a word before the line appears, and between two of its pictures.
_SILENCE, _STEP = 0.4, 0.1
_PICTURES = "|/-\\"
_ERASE = "\r\x1b[2K"


class Spinner(logging.Handler):
    """Handler of the rooms' logs whose line shows the latest work that begins (`announce`)."""

    def __init__(self) -> None:
        super().__init__()
        self._writing, self._ended = threading.Lock(), threading.Event()
        self.label, self._shown, self._last = "starting", False, time.monotonic()
        self._held = False
        threading.Thread(target=self._turn, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take the name of the work."""
        if record.levelno < logging.INFO:
            self.label = record.getMessage()

    def erase(self, *, hold: bool = False) -> None:
        """Make way for other output, before it is written; with `hold` until the next call."""
        with self._writing:
            self._held, self._last = hold, time.monotonic()
            if self._shown:
                self._shown = False
                sys.stderr.write(_ERASE)
                sys.stderr.flush()

    def end(self) -> None:
        """Erase the line for good."""
        self._ended.set()
        self.erase(hold=True)

    def _turn(self) -> None:
        n = 0
        while not self._ended.wait(_STEP):
            with self._writing:
                if self._held or time.monotonic() - self._last < _SILENCE:
                    continue
                n, self._shown = n + 1, True
                room = shutil.get_terminal_size().columns - 3
                text = short_line(self.label)[:room]
                sys.stderr.write(f"{_ERASE}{_PICTURES[n % len(_PICTURES)]} {text}")
                sys.stderr.flush()
