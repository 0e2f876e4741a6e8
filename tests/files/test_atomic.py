import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors import SafetensorError

from d2l.errors import CheckpointError, D2LError
from d2l.files import renames
from d2l.files.atomic import building, replace_file, write_file

HINT = "choose a folder with free space that you may write to"


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


@pytest.fixture(params=["in one step", "in two renames"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How places are taken: as this system does it, and as one that knows no such call."""
    if request.param == "in two renames":
        monkeypatch.setattr(renames, "_find_call", lambda: None)


@pytest.mark.usefixtures("_way")
def test_what_stands_there_is_replaced_in_both_ways(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", "old")
    with building(out) as folder:
        (folder / "new").write_text("new")
        assert list_all(out) == {"mark": "old"}  # until the new one is whole
    assert list_all(tmp_path) == {"out": None, "out/new": "new"}


@pytest.mark.usefixtures("_way")
def test_what_comes_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        if path.exists():
            raise CheckpointError("exists already")

    def lose(out: Path, come: Callable[[], object]) -> None:
        with building(out, lambda: refuse(out)) as folder:
            (folder / "new").write_text("new")
            come()

    with pytest.raises(CheckpointError):
        lose(tmp_path / "a", lambda: fill(tmp_path / "a", "theirs"))
    with pytest.raises(CheckpointError):
        lose(tmp_path / "b", lambda: (tmp_path / "b").write_text("theirs"))

    def write(target: Path) -> None:
        target.write_text("mine")
        (tmp_path / "c").write_text("theirs")

    with pytest.raises(CheckpointError):
        write_file(tmp_path / "c", write, lambda: refuse(tmp_path / "c"))
    assert list_all(tmp_path) == {"a": None, "a/mark": "theirs", "b": "theirs", "c": "theirs"}


@pytest.mark.usefixtures("_way")
def test_what_comes_between_the_last_look_and_the_rename_is_not_replaced(tmp_path: Path) -> None:
    """The check itself stands in for another process that is faster by a moment."""
    looks = []

    def look(path: Path) -> None:
        looks.append(path.exists())
        if len(looks) > 1:
            raise CheckpointError("exists already")
        path.write_text("theirs")

    with pytest.raises(CheckpointError):
        write_file(
            tmp_path / "f", lambda made: made.write_text("mine"), lambda: look(tmp_path / "f")
        )
    assert looks == [False, True]
    assert list_all(tmp_path) == {"f": "theirs"}


def test_an_interrupt_between_two_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that raises stands in for Ctrl-C at that instant, which no test could time: the
    old folder is aside then and the new one not yet in place."""
    monkeypatch.setattr(renames, "_find_call", lambda: None)
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


def test_files_and_names_are_on_the_disk_before_a_place_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut would leave cannot be tried here: the order of the calls stands for it."""
    done: list[str] = []
    fsync, rename = os.fsync, renames._rename

    def note_sync(handle: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def note_rename(source: Path, target: Path, way: renames.Way) -> bool:
        done.append(f"{way}: {target.name}")
        return rename(source, target, way)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(renames, "_rename", note_rename)
    for _ in range(2):
        with building(tmp_path / "out") as folder:
            (folder / "a").write_text("1")
        replace_file(tmp_path / "file", lambda made: made.write_text("1"))
    hidden = ".out."
    steps = ["HIDDEN" if name.startswith(hidden) else name for name in done]
    top = tmp_path.name
    assert steps == [
        *("a", "HIDDEN", "if free: out", top, "file", "if free: file", top),
        *("a", "HIDDEN", "exchange: out", top, "file", top),
    ]


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
