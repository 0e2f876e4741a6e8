"""Folders of a batch's inputs and adapters: on this machine, or in an object store by fsspec.

An uploaded adapter gets its lock last: if a store holds the lock, the adapter is whole.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from d2l.adapters.adapter_paths import refuse_adapter
from d2l.adapters.info import FILES, LOCK
from d2l.compiler.lock import Request, State, check
from d2l.errors import AdapterError, D2LError, DocumentError, MissingExtraError

if TYPE_CHECKING:
    from d2l.api.adapter import Adapter

#: Extras that bring the libraries of stores.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}


def is_remote(name: str) -> bool:
    """True if a name is an address, such as s3://bucket/docs."""
    return "://" in name


def list_remote(address: str) -> list[str]:
    """List the addresses of a folder's files, sorted, or of a file; raises DocumentError."""
    system, path = _open_system(address)
    with _naming(address):
        return [str(system.unstrip_protocol(found)) for found in sorted(system.find(path))]


@contextlib.contextmanager
def at_hand(inputs: Sequence[str]) -> Iterator[list[str]]:
    """Yield the inputs as local paths; downloads of stores are temporary."""
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


class LocalFolder:
    """Adapter folder of a row on this machine; raises AdapterError if links lead elsewhere."""

    def __init__(self, root: str, out: str) -> None:
        self._folder = Path(root, out)
        self.out = str(self._folder)
        real = os.path.realpath(self._folder)
        if not Path(real).is_relative_to(os.path.realpath(root)):
            raise AdapterError(
                f"{self.out}: leaves {root} through a link ({real})", hint="name another out"
            )

    def check(self, request: Request) -> State | None:
        """Compare the folder's lock with a request; None without a lock."""
        return check(self._folder, request)

    def refuse(self, *, force: bool) -> None:
        """Refuse a folder where no adapter may be written; raises AdapterError."""
        refuse_adapter(self._folder, force=force)

    def save(self, adapter: "Adapter", *, force: bool) -> None:
        """Write the adapter, whole or not at all."""
        adapter.save_pretrained(self._folder, force=force)


class RemoteFolder:
    """Adapter folder of a row in a store, with the methods of `LocalFolder`: an adapter is made in
    a temporary folder, then uploaded."""

    def __init__(self, root: str, out: str) -> None:
        self.out = f"{root.rstrip('/')}/{out}"
        self._name = PurePosixPath(out).name
        self._system, self._path = _open_system(self.out)

    def check(self, request: Request) -> State | None:
        """Compare the lock with a request. Files are not read: only their names are compared."""
        with tempfile.TemporaryDirectory(prefix="d2l-lock-") as folder:
            at = Path(folder, self._name)
            at.mkdir()
            with _naming(self.out):
                if not self._holds(LOCK):
                    return None
                self._system.get_file(f"{self._path}/{LOCK}", str(at / LOCK))
            state = check(at, request)
        with _naming(self.out):
            if state is None or not all(map(self._holds, state.lock["files"])):
                return None
        return replace(state, differences=tuple(d for d in state.differences if d.kind != "file"))

    def refuse(self, *, force: bool) -> None:
        """Refuse a folder that holds an adapter, unless `force`; raises AdapterError."""
        with _naming(self.out):
            if not force and self._holds(LOCK):
                raise AdapterError(
                    f"{self.out} exists already", hint="choose another folder, or --force"
                )

    def save(self, adapter: "Adapter", *, force: bool) -> None:  # noqa: ARG002 - `refuse` has looked
        """Upload the adapter. The old lock goes first, then files that the new adapter has not. The
        new lock comes last and appears whole, so a lock never stands beside a mixture."""
        with tempfile.TemporaryDirectory(prefix="d2l-upload-") as temporary:
            folder = adapter.save_pretrained(Path(temporary, self._name))
            new = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
            lock = f"{self._path}/{LOCK}"
            with _naming(self.out):
                for name in (LOCK, *FILES):
                    if name not in new and self._holds(name):
                        self._system.rm_file(f"{self._path}/{name}")
                self._system.makedirs(self._path, exist_ok=True)
                for name in new:
                    self._system.put_file(str(folder / name), f"{self._path}/{name}")
                self._system.put_file(str(folder / LOCK), f"{lock}.part")
                self._system.mv(f"{lock}.part", lock)

    def _holds(self, name: str) -> bool:
        return bool(self._system.exists(f"{self._path}/{name}"))


def _open_system(address: str) -> tuple[Any, str]:
    """Open the file system of an address; return it and the path in it. Raises a D2LError."""
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
    """Name the address in errors; the libraries of stores raise OSError mostly."""
    try:
        yield
    except D2LError:
        raise
    except Exception as error:  # fsspec and its stores share no base class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DocumentError(
            f"{address}: the store does not do it ({reason})", hint="check address and credentials"
        ) from error
