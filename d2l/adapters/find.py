"""Where an adapter lies, on disk or on the Hugging Face hub, and where one may be written."""

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
    """The folder of a user's adapters: that of D2L_ADAPTERS, else the current one."""
    return Path(os.environ.get(VARIABLE) or "").expanduser()


def find_adapter(
    name: str | Path, *, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """The folder of an adapter; raises AdapterError.

    A name without a path is looked for in the current folder and then in `home_folder`, in each as
    it is and then with ".lora". A `Path` and a folder that exists are local. Any other text of the
    form org/repo[@revision][:subfolder] is a repository on the hub, whose files are downloaded into
    the hub's cache, or only looked for there with `local_files_only`.
    """
    path = Path(name)
    with contextlib.suppress(RuntimeError):  # no such user: "~name" is then an ordinary name
        path = path.expanduser()
    folder = _find_folder(path)
    parsed = hub.parse_name(name) if isinstance(name, str) and folder is None else None
    if parsed is not None:
        found = parsed.at(revision)
        return hub.fetch(found, names.FILES, offline=local_files_only, error_type=AdapterError)
    if folder is None:
        _refuse_unknown(path)
    if revision is not None:
        raise AdapterError(
            f"{name}: is no name on the hub, so it has no revisions",
            hint="leave the revision out",
        )
    return folder or path  # what reads the folder says what is wrong with it


def _find_folder(path: Path) -> Path | None:
    """The first place with an adapter's config, else the path itself if it exists."""
    for place in _list_places(path):
        if find_local(str(place)) is None:
            recover(place)
        if find_local(str(place / names.CONFIG)) is not None:
            return place
    return find_local(str(path))


def _list_places(path: Path) -> list[Path]:
    """Where an adapter may lie, best first; only a name without a path has several places."""
    if path.name != str(path):
        return [path]
    folders = dict.fromkeys((Path(), home_folder()))
    return [folder / called for folder in folders for called in (path.name, path.name + _SUFFIX)]


def _refuse_unknown(path: Path) -> None:
    """Raise AdapterError for a name that is nowhere, and for a path that is nearly an adapter's."""
    places = _list_places(path)
    folders = list(dict.fromkeys(place.parent for place in places))
    near: dict[str, Path] = {}
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            near |= {
                p.name.removesuffix(_SUFFIX): p for p in folder.iterdir() if names.is_adapter(p)
            }
    similar = difflib.get_close_matches(path.name.removesuffix(_SUFFIX), near, n=1)
    hint = f"did you mean {near[similar[0]]}?" if similar else names.MAKE_ONE
    if len(places) > 1:
        where = "".join(f" or in {folder} ({VARIABLE})" for folder in folders[1:])
        raise AdapterError(f"{path}: no such adapter in this folder{where}", hint=hint)
    if similar:
        raise AdapterError(f"{path}: no such adapter folder", hint=hint)


def refuse_adapter(out: Path, *, force: bool, n_bytes: int = 0) -> None:
    """Raise AdapterError unless an adapter of this size may be written at `out`."""
    refuse_existing(out, force=force, own_names=names.own_names, error=AdapterError)
    refuse_full(out, n_bytes, AdapterError)


def refuse_removal(folder: Path) -> None:
    """Raise AdapterError unless a folder is an adapter's, with nothing in it that is not d2l's."""
    try:
        refuse_adapter(folder, force=True)
    except AdapterError as error:
        raise AdapterError(error.message, hint="d2l rm removes only what d2l wrote") from error


def remove_adapter(folder: Path) -> None:
    """Remove a folder: it is gone at once, or not at all; raises AdapterError. What a killed
    process leaves of it is hidden, and goes when the name is used again."""
    with naming(folder, AdapterError), open_workshop(folder) as (trash, _):
        folder.rename(trash / folder.name)
