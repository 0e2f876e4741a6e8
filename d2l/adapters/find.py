"""Where an adapter lies, on disk or on the Hugging Face hub, and where one may be written."""

from pathlib import Path

from d2l.adapters import info as names
from d2l.errors import AdapterError
from d2l.files import hub
from d2l.files.leftovers import recover
from d2l.files.ownership import refuse_existing


def find_adapter(
    name: str | Path, *, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """The folder of an adapter; raises AdapterError.

    A `Path` and a folder that exists are local. Any other text of the form
    org/repo[@revision][:subfolder] is a repository on the hub, whose files are downloaded into the
    hub's cache, or only looked for there with `local_files_only`.
    """
    folder = Path(name).expanduser()
    if not folder.exists():
        recover(folder)
    parsed = hub.parse_name(name) if isinstance(name, str) and not folder.exists() else None
    if parsed is None:
        if revision is not None:
            raise AdapterError(
                f"{name}: is no name on the hub, so it has no revisions",
                hint="leave the revision out",
            )
        return folder
    found = parsed.at(revision)
    return hub.fetch(found, names.FILES, offline=local_files_only, error_type=AdapterError)


def refuse_adapter(out: Path, *, force: bool) -> None:
    """Raise AdapterError unless an adapter may be written at `out`."""
    refuse_existing(out, force=force, own_names=names.own_names, error=AdapterError)
