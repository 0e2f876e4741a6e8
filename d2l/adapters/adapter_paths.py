"""Paths of adapters: find one on disk or on the Hugging Face hub, and check one to be written."""

import contextlib
import difflib
import os
from pathlib import Path

from d2l.adapters import info as names
from d2l.errors import AdapterError
from d2l.files import hub
from d2l.files.atomic import naming
from d2l.files.cache import find_local
from d2l.files.leftovers import open_workshop, recover
from d2l.files.ownership import refuse_existing, refuse_full

#: The environment variable that names the folder of a user's adapters.
VARIABLE = "D2L_ADAPTERS"
_SUFFIX = ".lora"


def home_folder() -> Path:
    """The folder of a user's adapters: D2L_ADAPTERS, else the current folder."""
    return Path(os.path.expanduser(os.environ.get(VARIABLE) or ""))


def find_adapter(
    name: str | Path, *, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """Find the folder of an adapter; raises AdapterError.

    A name is searched as it is and then with ".lora": without a path in the current folder and then
    in `home_folder`. A `Path` and an existing folder are local. Any other text of the form
    org/repo[@revision][:subfolder] is a repository on the hub: its files are downloaded into the
    hub's cache, or must be there with `local_files_only`.
    """
    path = Path(os.path.expanduser(name))  # without such a user, "~name" is an ordinary name
    folder = _find_folder(path)
    parsed = hub.parse_name(name) if isinstance(name, str) and folder is None else None
    if parsed is not None:
        source = parsed.at(revision)
        return hub.fetch(source, names.FILES, offline=local_files_only, error_type=AdapterError)
    if folder is None:
        _refuse_unknown(path)
    if revision is not None:
        raise AdapterError(
            f"{name}: is no name on the hub, so it has no revisions", hint="leave the revision out"
        )
    return folder or path  # reading the folder raises an error that explains it


def _find_folder(path: Path) -> Path | None:
    """Find the first path with an adapter's config, else the path itself if it exists."""
    for candidate in _list_candidates(path):
        if find_local(str(candidate)) is None:
            recover(candidate)
        if find_local(str(candidate / names.CONFIG)) is not None:
            return candidate
    return find_local(str(path))


def _list_candidates(path: Path) -> list[Path]:
    """List possible paths of an adapter, best first."""
    is_name = path.name == str(path)
    folders = dict.fromkeys((Path(), home_folder()) if is_name else (path.parent,))
    return [folder / name for folder in folders for name in (path.name, path.name + _SUFFIX)]


def _refuse_unknown(path: Path) -> None:
    """Raise AdapterError for an unknown name, and for a path that resembles an adapter's."""
    candidates = _list_candidates(path)
    folders = list(dict.fromkeys(candidate.parent for candidate in candidates))
    near: dict[str, Path] = {}
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            near |= {
                p.name.removesuffix(_SUFFIX): p for p in folder.iterdir() if names.is_adapter(p)
            }
    similar = difflib.get_close_matches(path.name.removesuffix(_SUFFIX), near, n=1)
    hint = f"did you mean {near[similar[0]]}?" if similar else names.MAKE_ONE
    if path.name == str(path):
        where = "".join(f" or in {folder} ({VARIABLE})" for folder in folders[1:])
        raise AdapterError(f"{path}: no such adapter in this folder{where}", hint=hint)
    if similar:
        raise AdapterError(f"{path}: no such adapter folder", hint=hint)


def refuse_adapter(out: Path, *, force: bool) -> None:
    """Raise AdapterError unless an adapter may be written at `out`."""
    refuse_existing(out, force=force, own_names=names.own_names, error=AdapterError)


def refuse_small_disk(out: Path, n_bytes: int) -> None:
    """Raise AdapterError unless the disk of `out` has room for an adapter of this size."""
    refuse_full(out, n_bytes, AdapterError)


def refuse_removal(folder: Path) -> None:
    """Raise AdapterError unless a folder is an adapter's, and d2l wrote all its files."""
    if not os.path.lexists(folder):
        raise AdapterError(f"{folder}: there is no such adapter", hint="see d2l ls")
    try:
        refuse_adapter(folder, force=True)
    except AdapterError as error:
        raise AdapterError(error.message, hint="d2l rm removes only files of d2l") from error


def remove_adapter(folder: Path) -> None:
    """Remove a folder, whole or not at all; raises AdapterError. A killed process may leave a
    hidden folder, which is removed when the name is used again."""
    with naming(folder, AdapterError), open_workshop(folder) as (trash, _):
        folder.rename(trash / folder.name)
