"""Whether the copy of a base in the cache is still what was written: digests beside its files.

A folder in, the first damaged file out. A fast digest at every start; SHA-256 when asked for.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from d2l.files.atomic import replace_file
from d2l.files.page_digest import page_digest

FILE = "checks.json"
#: Files that were looked at in this process, as they are: path, size, time of change, inode.
_seen: set[tuple[str, int, int, int]] = set()


@dataclass(frozen=True)
class Damage:
    """A file of a copy that is not as it was written, and how that is known."""

    file: str
    reason: str


def record(folder: Path, names: Iterable[str]) -> None:
    """Keep the digests of these files of a folder, beside those that are kept already."""
    checks = read_checks(folder)
    for name in names:
        with (folder / name).open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        checks[name] = {"pages": page_digest(folder / name), "sha256": sha256}
    text = json.dumps({"files": checks}, indent=1, sort_keys=True) + "\n"
    replace_file(folder / FILE, lambda target: target.write_text(text, "utf-8"))


def read_checks(folder: Path) -> dict[str, dict[str, str]]:
    """The digests that are kept of a folder's files; none where they cannot be read."""
    try:
        found = json.loads((folder / FILE).read_text("utf-8"))["files"]
        return {
            name: {"pages": str(checks["pages"]), "sha256": str(checks["sha256"])}
            for name, checks in found.items()
        }
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}


def is_recorded(folder: Path, name: str) -> bool:
    """Whether a file is there and its digests are kept."""
    return name in read_checks(folder) and (folder / name).is_file()


def find_damage(folder: Path, names: Iterable[str], *, full: bool = False) -> Damage | None:
    """The first of these files that is not as it was recorded; None where all are. Those that
    are sound are not read again in this process, unless `full` asks for their SHA-256."""
    checks = read_checks(folder)
    for name in names:
        path = folder / name
        expected = checks.get(name)
        if expected is None:
            return Damage(name, "no digest of it is kept")
        try:
            stat = path.stat()
            stamp = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
            if full:
                with path.open("rb") as stream:
                    found = hashlib.file_digest(stream, "sha256").hexdigest()
                sound = found == expected["sha256"]
            else:
                sound = stamp in _seen or page_digest(path) == expected["pages"]
        except (OSError, ValueError) as error:
            return Damage(name, getattr(error, "strerror", None) or str(error))
        if not sound:
            return Damage(name, "it is not what was written")
        _seen.add(stamp)
    return None
