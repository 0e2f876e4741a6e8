"""Where inputs and adapters of a batch lie: folders of this machine, or an object store by fsspec.

An adapter that is uploaded gets its lock last: where a store holds one, the adapter is whole.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from d2l.adapters.info import LOCK
from d2l.errors import D2LError, DocumentError, MissingExtraError

#: Extras that bring the libraries of stores.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}


def is_remote(name: str) -> bool:
    """Whether a name is an address, such as s3://bucket/docs."""
    return "://" in name


def list_remote(address: str) -> list[str]:
    """Addresses of all files below one, sorted, or of the file itself; raises DocumentError."""
    system, path = _open_system(address)
    with _naming(address):
        return [str(system.unstrip_protocol(found)) for found in sorted(system.find(path))]


@contextlib.contextmanager
def at_hand(inputs: Sequence[str]) -> Iterator[list[str]]:
    """The inputs as local paths: those of stores are downloaded, and gone afterwards."""
    with contextlib.ExitStack() as stack:
        paths = []
        for given in inputs:
            if not is_remote(given):
                paths.append(given)
                continue
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="d2l-input-"))
            system, path = _open_system(given)
            local = Path(folder, PurePosixPath(path).name)
            with _naming(given):
                system.get_file(path, str(local))
            paths.append(str(local))
        yield paths


class RemoteFolder:
    """One adapter's folder in a store."""

    def __init__(self, root: str, out: str) -> None:
        self.address = f"{root.rstrip('/')}/{out}"
        self._system, self._path = _open_system(self.address)

    def fetch_lock(self, folder: Path) -> bool:
        """Put the lock that is there, if one is, into a local folder."""
        with _naming(self.address):
            if not self._system.exists(self._name(LOCK)):
                return False
            folder.mkdir(parents=True, exist_ok=True)
            self._system.get_file(self._name(LOCK), str(folder / LOCK))
        return True

    def is_whole(self, files: Mapping[str, Any]) -> bool:
        """Whether all files of these names are there."""
        with _naming(self.address):
            return all(self._system.exists(self._name(name)) for name in files)

    def upload(self, folder: Path) -> None:
        """Put an adapter there: what stands there is no whole one any more as of now, and the new
        one is when its lock has come, which is last."""
        files = [path for path in sorted(folder.iterdir()) if path.name != LOCK]
        with _naming(self.address):
            if self._system.exists(self._name(LOCK)):
                self._system.rm_file(self._name(LOCK))
            self._system.makedirs(self._path, exist_ok=True)
            for path in (*files, folder / LOCK):
                self._system.put_file(str(path), self._name(path.name))

    def _name(self, name: str) -> str:
        return f"{self._path}/{name}"


def _open_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it; raises a D2LError."""
    import fsspec

    protocol = address.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(address)  # type: ignore[no-any-return]
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        hint = f"pip install 'd2l[{extra}]'" if extra else "install it"
        raise MissingExtraError(
            f"{address}: the library of such stores is missing ({error})", hint=hint
        ) from error
    except ValueError as error:
        raise DocumentError(f"{address}: no such kind of store", hint="s3://, gs:// …") from error


@contextlib.contextmanager
def _naming(address: str) -> Iterator[None]:
    """Say which address it was; stores' libraries raise what they like, OSError mostly."""
    try:
        yield
    except D2LError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DocumentError(
            f"{address}: the store does not do it ({reason})", hint="check address and credentials"
        ) from error
