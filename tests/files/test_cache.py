import hashlib
import json
import os
from pathlib import Path

import platformdirs
import pytest

from d2l.files.cache import cache_dir, file_digest, find_local, join_digests

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(b"weights")
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def remembered(cache: Path) -> dict[str, str]:
    return json.loads((cache / "digests.json").read_text("utf-8"))


# ---- the cache folder ---------------------------------------------------------------------------


def test_cache_folder_is_the_one_named_or_the_platforms_own(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_dir() == cache
    for nothing in ("", None):
        if nothing is None:
            monkeypatch.delenv("D2L_CACHE_DIR")
        else:
            monkeypatch.setenv("D2L_CACHE_DIR", nothing)
        assert cache_dir() == Path(platformdirs.user_cache_dir("d2l"))


def test_home_in_the_cache_folders_name_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("D2L_CACHE_DIR", "~/here")
    assert cache_dir() == tmp_path / "here"


# ---- names of files -----------------------------------------------------------------------------


def test_names_lead_to_files_and_folders(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert find_local(str(file)) == file
    assert find_local("file.bin") == Path("file.bin")
    assert find_local(".") == Path()
    assert find_local("~/file.bin") == file
    assert find_local("~") == tmp_path


@pytest.mark.parametrize(
    "name", ["", "missing", "x" * 5000, "a\0b", "~nobody-has-this-name/x", "file.bin/x", "\udcff"]
)
def test_other_names_lead_nowhere(
    name: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert file.is_file()
    assert find_local(name) is None


# ---- digests ------------------------------------------------------------------------------------


def test_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "large"
    for data in (b"", b"abc", b"x" * (1 << 20), os.urandom((1 << 20) + 1)):
        path.write_bytes(data)
        assert file_digest(path) == sha256(data)
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_is_remembered_and_the_file_not_read_again(cache: Path, file: Path) -> None:
    digest = file_digest(file)
    assert list(remembered(cache).values()) == [digest]
    stamp = file.stat()
    file.write_bytes(b"w8ights")  # same size, and made to look as old
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert file_digest(file) == digest


@pytest.mark.parametrize("data", [b"w8ights", b"longer weights"], ids=["time", "size"])
def test_changed_file_has_another_digest(file: Path, data: bytes) -> None:
    old, stamp = file_digest(file), file.stat()
    file.write_bytes(data)
    later = stamp.st_mtime_ns + (1 if len(data) == stamp.st_size else 0)
    os.utime(file, ns=(stamp.st_atime_ns, later))
    assert file_digest(file) == sha256(data) != old


def test_files_of_the_same_size_and_time_are_told_apart(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(path.name.encode())
        os.utime(path, ns=(0, 0))
    assert [file_digest(path) for path in paths] == [sha256(b"a"), sha256(b"b")]


def test_link_and_its_target_are_one_file(cache: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    assert file_digest(tmp_path / "link") == file_digest(file) == sha256(b"weights")
    assert len(remembered(cache)) == 1


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", "7", '{"a": 1}', "\0", "\xff\xfe", '{"%s": 5}', '{"%s": null}'],
)
def test_damaged_memory_is_replaced(cache: Path, file: Path, damage: str) -> None:
    digest = file_digest(file)
    (stamp,) = remembered(cache)
    (cache / "digests.json").write_bytes(damage.replace("%s", stamp).encode("latin-1"))
    assert file_digest(file) == digest
    assert remembered(cache) == {stamp: digest}
    assert [path.name for path in cache.iterdir()] == ["digests.json"]


def test_memory_is_bounded(cache: Path, file: Path) -> None:
    cache.mkdir()
    (cache / "digests.json").write_text(json.dumps({str(n): "0" for n in range(1000)}))
    file_digest(file)
    known = remembered(cache)
    assert len(known) == 256
    assert list(known)[-2:] == ["999", *[stamp for stamp in known if str(file) in stamp]]


@pytest.mark.parametrize("place", ["file.bin", "file.bin/below", "x" * 300])
def test_cache_that_cannot_be_written_costs_only_time(
    place: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / place))
    assert file_digest(file) == sha256(b"weights")
    assert file.read_bytes() == b"weights"


def test_blob_of_the_hubs_cache_is_named_by_its_digest(cache: Path, tmp_path: Path) -> None:
    """Taken as is, so the wrong name shows that the bytes are not read."""
    blob = tmp_path / "blobs" / ("0123456789abcdef" * 4)
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert file_digest(tmp_path / "model.safetensors") == blob.name
    assert not cache.exists()


@pytest.mark.parametrize(
    "name",
    [f"blobs/{'0' * 40}", f"other/{'0' * 64}", f"blobs/{'g' * 64}", f"blobs/{'x' * 59}.gguf"],
    ids=["short", "elsewhere", "not hex", "suffix"],
)
def test_other_files_are_not_named_by_their_digest(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir()
    path.write_bytes(b"weights")
    assert file_digest(path) == sha256(b"weights")


def test_missing_file_raises_as_opening_it_would(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "missing")


def test_joined_digest_depends_on_every_digest_and_their_order() -> None:
    assert join_digests(["aa", "bb"]) == hashlib.sha256(b"aa\nbb").hexdigest()
    assert join_digests([]) == hashlib.sha256(b"").hexdigest()
    assert len({join_digests(d) for d in (["a", "b"], ["b", "a"], ["ab"], ["a"], ["a", ""])}) == 5
