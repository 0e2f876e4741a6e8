import os
import shutil
from pathlib import Path

import pytest

from d2l.errors import AdapterError, CheckpointError, D2LError
from d2l.files.ownership import refuse_existing
from tests.files.test_atomic import HINT, fill, list_all


def own_names(folder: Path) -> tuple[str, ...] | None:
    return ("mark", "part-*.bin") if (folder / "mark").is_file() else None


def refuse(folder: Path, *, force: bool = False) -> None:
    refuse_existing(folder, force=force, own_names=own_names, error=CheckpointError)


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("out", ["out", "a/b/out"])
def test_a_free_place_is_accepted_and_nothing_is_made(
    out: str, force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(tmp_path / out, force=force)
    refuse(Path(out), force=force)
    assert list_all(tmp_path) == {}


def test_a_name_that_nothing_could_open_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the name is not UTF-8"):
        refuse(tmp_path / os.fsdecode(b"a\xff.lora"))


def test_what_is_there_is_refused_without_force_in_the_callers_type(tmp_path: Path) -> None:
    out = fill(tmp_path / "ours", "x")
    with pytest.raises(CheckpointError) as caught:
        refuse(out)
    assert caught.value.message == f"{out} exists already"
    assert caught.value.hint == "choose another -o, or replace it: --force (in Python force=True)"


def test_force_accepts_our_own_kind_only(tmp_path: Path) -> None:
    refuse(fill(tmp_path / "ours", "x"), force=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("file", "foreign", "link", "broken"):
        with pytest.raises(AdapterError) as caught:
            refuse_existing(tmp_path / name, force=True, own_names=own_names, error=AdapterError)
        assert caught.value.message == f"{tmp_path / name} exists and was not written by d2l"
        assert caught.value.hint == "choose another -o: d2l replaces only its own files"
        with pytest.raises(AdapterError, match="was not written by d2l"):
            refuse_existing(tmp_path / name, force=False, own_names=own_names, error=AdapterError)


def test_a_place_below_a_file_or_of_a_long_name_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = f"{tmp_path / 'file'} is not a folder"
    for name, reason in (
        ("file/out", below),
        ("file/a/out", below),
        ("y" * 256, "File name too long"),
    ):
        out = tmp_path / name
        with pytest.raises(CheckpointError) as caught:
            refuse(out)
        assert caught.value.message == f"{out}: cannot be written ({reason})"
        assert caught.value.hint == HINT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_a_place_without_permission_is_refused_before_any_work(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(CheckpointError) as caught:
        refuse(locked / "out")
    assert caught.value.message == f"{locked / 'out'}: cannot be written (Permission denied)"


def test_force_names_what_is_not_ours_and_replaces_nothing(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", "x")
    for name in ("part-1.bin", ".DS_Store"):
        (out / name).write_text("")
    refuse(out, force=True)
    (out / "notes.txt").write_text("days")
    (out / "a\x1b[2J").write_text("")
    (out / "mark.d").mkdir()
    (out / "part-2.bin").mkdir()
    with pytest.raises(CheckpointError) as caught:
        refuse(out, force=True)
    foreign = "a\ufffd[2J, mark.d/, notes.txt and 1 more"
    assert caught.value.message == f"{out} holds files that d2l did not write: {foreign}"
    assert caught.value.hint == (
        "choose another -o, or move them away: d2l replaces only its own files"
    )
    for name in ("mark.d", "part-2.bin"):
        shutil.rmtree(out / name)
    (out / "a\x1b[2J").unlink()
    with pytest.raises(CheckpointError, match=r"did not write: notes\.txt$"):
        refuse(out, force=True)


def test_force_replaces_only_our_kind_of_file(tmp_path: Path) -> None:
    own, folder = tmp_path / "own", tmp_path / "folder"
    own.write_bytes(b"d2l")
    folder.mkdir()

    def refuse(path: Path) -> None:
        refuse_existing(
            path,
            force=True,
            own_names=lambda found: () if found.read_bytes() == b"d2l" else None,
            error=D2LError,
            is_kind=Path.is_file,
        )

    refuse(own)
    own.write_bytes(b"other")
    for path in (own, folder):
        with pytest.raises(D2LError, match="was not written by d2l"):
            refuse(path)


def test_what_a_kill_left_of_a_files_writing_is_nobodys_loss(tmp_path: Path) -> None:
    out = fill(tmp_path / "ours", "x")
    (out / ".part-1.bin.123.abcdefgh.new").mkdir()
    refuse(out, force=True)
