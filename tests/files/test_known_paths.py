from pathlib import Path

import pytest

from d2l.files.known_paths import find_path, remember

pytestmark = pytest.mark.usefixtures("cache")


def test_a_path_is_known_while_a_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("x")
    remember({"aa": Path("a.txt"), "bb": Path("nowhere")})
    monkeypatch.chdir("/")
    assert find_path("aa") == tmp_path / "a.txt"
    assert find_path("bb") is find_path("cc") is find_path(None) is None
    (tmp_path / "a.txt").unlink()
    assert find_path("aa") is None


@pytest.mark.parametrize("content", ["", "[]", '{"aa": 3}', '{"aa":' * 100_000, "\0"])
def test_a_damaged_memory_is_none(content: str, cache: Path, tmp_path: Path) -> None:
    cache.mkdir()
    (cache / "places.json").write_text(content)
    assert find_path("aa") is None
    remember({"aa": tmp_path})
    assert find_path("aa") == tmp_path


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "file" / "cache"))
    remember({"aa": tmp_path})
    assert find_path("aa") is None
