import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors import SafetensorError

from d2l.errors import AdapterError, CheckpointError, D2LError
from d2l.files.atomic import building, refuse_existing, write_file

HINT = "choose a place that has room and that you may write to"


def is_ours(folder: Path) -> bool:
    return (folder / "mark").is_file()


def refuse(folder: Path, *, force: bool = False) -> None:
    refuse_existing(folder, force=force, is_ours=is_ours, error=CheckpointError)


def fill(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "mark").write_text(text)
    return folder


def list_all(root: Path) -> dict[str, str | None]:
    """Every path below a folder, with the text of files."""
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else None
        for path in root.rglob("*")
    }


# ---- building -----------------------------------------------------------------------------------


def test_a_folder_appears_whole_at_the_end_and_only_then(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with building(out) as folder:
        (folder / "a").write_text("1")
        assert not out.exists()
        assert folder.parent == tmp_path  # a sibling, so that renaming never copies
        assert folder.name.startswith(".out.")
        (folder / "b").write_text("2")
    assert list_all(tmp_path) == {"out": None, "out/a": "1", "out/b": "2"}


def test_the_old_folder_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", "old")
    with building(out) as folder:
        (folder / "new").write_text("new")
        assert list_all(out) == {"mark": "old"}
    assert list_all(tmp_path) == {"out": None, "out/new": "new"}


def test_folders_above_are_made(tmp_path: Path) -> None:
    with building(tmp_path / "a" / "b" / "out") as folder:
        (folder / "f").write_text("1")
    assert (tmp_path / "a" / "b" / "out" / "f").read_text() == "1"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, CheckpointError])
@pytest.mark.parametrize("out", ["out", "above/out"])
def test_any_error_inside_leaves_nothing_and_passes_on(
    error: type[BaseException], out: str, tmp_path: Path
) -> None:
    def fail() -> None:
        with building(tmp_path / out) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "file").write_text("half")
            raise error("stop")

    with pytest.raises(error, match="stop"):
        fail()
    assert list_all(tmp_path) == {}


def test_folders_above_that_others_use_meanwhile_are_left_alone(tmp_path: Path) -> None:
    def fail() -> None:
        with building(tmp_path / "above" / "out"):
            (tmp_path / "above" / "other").write_text("not ours")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert list_all(tmp_path) == {"above": None, "above/other": "not ours"}


def test_an_interrupt_between_the_two_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that raises stands in for Ctrl-C at that instant, which no test could time: the
    old folder is aside then and the new one not yet in place."""
    out = fill(tmp_path / "out", "old")
    rename = Path.rename

    def interrupt(path: Path, target: Path) -> Path:
        if target == out and not path.name.endswith(".old"):
            assert not out.exists()
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt), building(out) as folder:
        (folder / "new").write_text("new")
    assert list_all(tmp_path) == {"out": None, "out/mark": "old"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("odd"), "odd"),
        (SafetensorError("I/O error: No space left"), "I/O error: No space left"),
    ],
)
def test_what_the_system_refuses_is_one_line(error: Exception, reason: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(D2LError) as caught, building(out):
        raise error
    assert caught.value.message == f"{out}: cannot be written ({reason})"
    assert caught.value.hint == HINT
    assert caught.value.__cause__ is error


def test_a_file_in_the_way_of_a_folder_above_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "sub" / "out"
    with pytest.raises(D2LError) as caught, building(out):
        pass
    assert caught.value.message == f"{out}: cannot be written (Not a directory)"
    assert list_all(tmp_path) == {"file": ""}


@pytest.mark.parametrize("name", ["y" * 255, "日" * 85, "🏔" * 63])
def test_names_may_be_as_long_as_the_system_allows(name: str, tmp_path: Path) -> None:
    assert 252 <= len(os.fsencode(name)) <= 255
    with building(tmp_path / name):
        pass
    with building(tmp_path / name) as folder:
        (folder / "f").write_text("1")
    assert list_all(tmp_path) == {name: None, f"{name}/f": "1"}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("mask", "folders", "files"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)]
)
def test_permissions_are_those_of_new_files(
    mask: int, folders: int, files: int, tmp_path: Path
) -> None:
    with umask(mask), building(tmp_path / "out") as folder:
        (folder / "private").write_text("")
        (folder / "private").chmod(0o600)  # as safetensors does
        (folder / "sub").mkdir()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"out": folders, "sub": folders, "private": files}


# ---- refuse_existing ----------------------------------------------------------------------------


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("out", ["out", "a/b/out"])
def test_a_free_place_is_accepted_and_nothing_is_made(
    out: str, force: bool, tmp_path: Path
) -> None:
    refuse(tmp_path / out, force=force)
    assert list_all(tmp_path) == {}


def test_a_relative_place_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(Path("out"))
    refuse(Path("a/out"))


def test_what_is_there_is_refused_without_force_in_the_callers_type(tmp_path: Path) -> None:
    for out in (fill(tmp_path / "ours", "x"), tmp_path):
        with pytest.raises(CheckpointError) as caught:
            refuse(out)
        assert caught.value.message == f"{out} exists already"
        assert caught.value.hint == "choose another -o, or replace it: --force"


def test_force_accepts_our_own_kind_only(tmp_path: Path) -> None:
    refuse(fill(tmp_path / "ours", "x"), force=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("file", "foreign", "link", "broken"):
        with pytest.raises(AdapterError) as caught:
            refuse_existing(tmp_path / name, force=True, is_ours=is_ours, error=AdapterError)
        assert caught.value.message == f"{tmp_path / name} exists and was not written by d2l"
        assert caught.value.hint == "--force replaces only what d2l wrote; choose another -o"


def test_a_place_below_a_file_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", tmp_path / "file" / "a" / "out"):
        with pytest.raises(CheckpointError) as caught:
            refuse(out)
        reason = f"{tmp_path / 'file'} is not a folder"
        assert caught.value.message == f"{out}: cannot be written ({reason})"
        assert caught.value.hint == HINT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_a_place_without_permission_is_refused_before_any_work(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(CheckpointError) as caught:
        refuse(locked / "out")
    assert caught.value.message == f"{locked / 'out'}: cannot be written (Permission denied)"


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    out = tmp_path / ("y" * 256)
    with pytest.raises(CheckpointError) as caught:
        refuse(out)
    assert caught.value.message == f"{out}: cannot be written (File name too long)"


# ---- single files -------------------------------------------------------------------------------


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_file(path, fail)
    assert list(tmp_path.iterdir()) == []
    write_file(path, lambda temporary: temporary.write_bytes(b"whole"))
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]
    with pytest.raises(D2LError, match=r"a\.bin/b: cannot be written"):
        write_file(path / "b", lambda temporary: temporary.write_bytes(b"x"))


def test_force_replaces_only_our_kind_of_file(tmp_path: Path) -> None:
    own, folder = tmp_path / "own", tmp_path / "folder"
    own.write_bytes(b"d2l")
    folder.mkdir()

    def refuse(path: Path) -> None:
        refuse_existing(
            path,
            force=True,
            is_ours=lambda found: found.read_bytes() == b"d2l",
            error=D2LError,
            is_kind=Path.is_file,
        )

    refuse(own)
    own.write_bytes(b"other")
    for path in (own, folder):
        with pytest.raises(D2LError, match="was not written by d2l"):
            refuse(path)
