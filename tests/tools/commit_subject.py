"""Refuse a commit whose subject has more than 72 characters: a commit-msg hook."""

import sys
from pathlib import Path

MOST = 72


def check(message: str) -> str | None:
    """Say what is wrong with a commit message; None if nothing is."""
    subject = message.partition("\n")[0]
    if len(subject) <= MOST:
        return None
    return f"the subject has {len(subject)} characters, at most {MOST} are allowed"


if __name__ == "__main__":
    sys.exit(check(Path(sys.argv[1]).read_text("utf-8")))
