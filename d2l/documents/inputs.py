"""Arguments of a command → sources: files, folders, standard input, in a fixed order.

Reads no file.
"""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from d2l.documents.document import Source
from d2l.errors import DocumentError
from d2l.readers.formats import FORMATS

STDIN = "-"
_ADDRESS = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")
#: File that marks an adapter's folder, or an export's: its card is no document.
OWN = "d2l.json"
#: Every suffix that a reader takes.
SUFFIXES = [suffix for known in FORMATS.values() for suffix in known.suffixes]


class Inputs(NamedTuple):
    """Sources to read; `ignored` files of folders, which no reader takes; and `bad` inputs that
    lead nowhere, (name, error)."""

    sources: tuple[Source, ...]
    ignored: tuple[str, ...] = ()
    bad: tuple[tuple[str, DocumentError], ...] = ()


def expand_inputs(
    inputs: Sequence[str], *, skip_bad: bool = False, follow_links: bool = False
) -> Inputs:
    """List the documents of some inputs, each file once, folders sorted by path.

    An input that leads nowhere raises DocumentError, or is listed with `skip_bad`. Folders are
    read with their subfolders, without hidden entries and links to folders. A link that leaves its
    folder is bad without `follow_links`. A file's suffix counts only if it is in a folder.
    """
    if list(inputs).count(STDIN) > 1:
        raise DocumentError("-: standard input is named twice", hint="name it once")
    sources: list[Source] = []
    ignored: list[str] = []
    seen: set[str] = set()
    bad: list[tuple[str, DocumentError]] = []
    for given in inputs:
        if given == STDIN:
            sources.append(Source(STDIN))
            continue
        try:
            taken, passed_over = find_files(given)
        except DocumentError as error:
            if not skip_bad:
                raise
            bad.append((printable(given), error))
            continue
        ignored += [printable(str(file)) for file in passed_over]
        folder = os.path.realpath(given)
        for file in taken:
            real = os.path.realpath(file)
            if not follow_links and not Path(real).is_relative_to(folder):
                name = printable(str(file))
                hint = "name the file itself, or follow such links: --follow-links"
                leaving = DocumentError(f"{name}: is a link that leaves the folder", hint=hint)
                if not skip_bad:
                    raise leaving
                bad.append((name, leaving))
            elif real not in seen:
                seen.add(real)
                is_given = file == Path(given)
                shared = file.name if is_given else file.relative_to(given).as_posix()
                sources.append(Source(printable(str(file)), file, shared=printable(shared)))
    return Inputs(tuple(sources), tuple(ignored), tuple(bad))


def find_files(given: str) -> tuple[list[Path], list[Path]]:
    """Find the documents of a path, and the files of a folder that no reader takes."""
    if not given.strip():  # the path of an empty name would be the working directory
        raise DocumentError(
            "an input has an empty name", hint="name files, folders, or - for stdin"
        )
    if _ADDRESS.match(given):
        raise DocumentError(
            f"{printable(given)}: d2l opens no addresses",
            hint="download it first (curl -O), and name the file",
        )
    path = Path(given)
    if not is_folder(path):
        return [path], []
    if (path / OWN).is_file():
        raise DocumentError(
            f"{printable(given)}: was written by d2l, it is no folder of documents",
            hint="name the documents themselves",
        )
    files = list_folder(path)
    taken = [file for file in files if has_known_suffix(file) and may_be_file(file)]
    if not taken:
        raise DocumentError(
            f"{printable(str(path))}: no readable documents in this folder",
            hint=f"it should hold files named {', '.join(SUFFIXES)}",
        )
    return taken, [file for file in files if file not in taken]


def is_folder(path: Path) -> bool:
    """True if a path is a folder; raises DocumentError if there is no such path."""
    name = printable(str(path))
    try:
        if path.is_dir():
            return True
        exists = path.exists()
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte in it
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DocumentError(f"{name}: {reason}", hint="check the path") from None
    if not exists:
        hint = "check the path"
        if " " in name and not path.suffix:
            hint += "; a text comes from standard input (-), in Python from Document.from_text"
        raise DocumentError(f"{name}: no such file or folder", hint=hint)
    return False


def list_folder(folder: Path) -> list[Path]:
    """List files that are not hidden, pipes and devices among them, sorted by the parts of their
    paths. Links to folders are not followed; folders that d2l wrote, such as the output of the last
    run, are ignored."""

    def refuse(error: OSError) -> None:
        name = printable(str(error.filename or folder))
        raise DocumentError(
            f"{name}: {error.strerror}", hint="make the folder readable, or name its files instead"
        )

    listed: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        if OWN in names:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        listed += (Path(parent, name) for name in names if not name.startswith("."))
    return sorted(listed, key=lambda file: file.parts)


def may_hold(path: Path, size_bytes: int) -> bool:
    """True if a path leads to a regular file of a size. Other paths out of an adapter are not
    opened: pipes and devices may never end."""
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_size == size_bytes


def may_be_file(path: Path) -> bool:
    """True if a path leads to a regular file, or to an unreadable target."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        return True
    except (OSError, ValueError):  # leads nowhere, or round in a circle
        return False


def has_known_suffix(file: Path) -> bool:
    """True if a reader takes files of this suffix."""
    return file.suffix.lower() in SUFFIXES


def printable(name: str) -> str:
    """Make a file name fit for one line of any output: no half characters, no controls."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
