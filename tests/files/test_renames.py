import errno
import os
import sys
from pathlib import Path

import pytest

from d2l.files import renames
from d2l.files.renames import exchange, move_if_free, sync
from tests.files.test_atomic import fill


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="no such call there")
def test_two_folders_change_places(tmp_path: Path) -> None:
    a, b = fill(tmp_path / "a", "1"), fill(tmp_path / "b", "2")
    assert exchange(a, b)
    assert ((a / "mark").read_text(), (b / "mark").read_text()) == ("2", "1")
    with pytest.raises(FileNotFoundError):
        exchange(a, tmp_path / "none")
    assert (a / "mark").read_text() == "2"


@pytest.mark.parametrize("unknown", [errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP])
def test_a_call_that_is_not_known_here_is_told_from_one_that_failed(
    unknown: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that fails stands in for other systems: only the number it leaves is looked at."""
    monkeypatch.setattr(renames, "_find_call", lambda: lambda *_: -1)
    monkeypatch.setattr(renames.ctypes, "get_errno", lambda: unknown)
    a, b = fill(tmp_path / "a", "1"), fill(tmp_path / "b", "2")
    assert not exchange(a, b)
    monkeypatch.setattr(renames.ctypes, "get_errno", lambda: errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        exchange(a, b)


@pytest.mark.parametrize("known", [True, False])
def test_a_place_that_is_taken_is_not_replaced(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not known:
        monkeypatch.setattr(renames, "_find_call", lambda: None)
    (tmp_path / "file").write_text("mine")
    for taken in (fill(tmp_path / "folder", "x"), tmp_path / "other"):
        if not taken.exists():
            taken.write_text("x")
        with pytest.raises(FileExistsError):
            move_if_free(tmp_path / "file", taken)
        with pytest.raises(FileExistsError):
            move_if_free(fill(tmp_path / f"new-{taken.name}", "y"), taken)
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        move_if_free(tmp_path / "file", tmp_path / "dangling")
    move_if_free(tmp_path / "file", tmp_path / "free")
    move_if_free(tmp_path / "folder", tmp_path / "free-folder")
    assert (tmp_path / "free").read_text() == "mine"
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "free-folder" / "mark").read_text() == "x"


def test_a_disk_that_fails_while_syncing_is_an_error_and_one_that_cannot_sync_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "a", "1")

    def fail(number: int) -> None:
        def fsync(_handle: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)

    fail(errno.EINVAL)
    sync(tmp_path / "a")
    fail(errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        sync(tmp_path / "a")
