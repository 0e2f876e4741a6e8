import os
import time
from pathlib import Path

import pytest

from d2l.errors import OptionError
from d2l.files import cache_entries as entries


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path))


def put(kind: str, key: str, n_bytes: int, used: float) -> Path:
    path = entries.entry_path(kind, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(n_bytes))
    os.utime(path, (used, used))
    return path


def test_the_least_recently_used_go_first_and_only_as_many_as_must() -> None:
    old = put(entries.CHUNKS, "aa1", 100, 1000.0)
    middle = put(entries.ASSEMBLED, "bb2", 100, 2000.0)
    new = put(entries.CHUNKS, "cc3", 100, 3000.0)
    entries.touch(old)  # used just now
    assert [entry.path for entry in entries.prune(200)] == [middle]
    assert old.is_file()
    assert new.is_file()
    assert [entry.path for entry in entries.list_entries()] == [new, old]


def test_pruning_to_nothing_leaves_what_is_no_entry(tmp_path: Path) -> None:
    put(entries.CHUNKS, "aa1", 100, 1000.0)
    base = tmp_path / "bases" / "base.gguf"
    base.parent.mkdir()
    base.write_bytes(bytes(50))
    entries.prune(0)
    assert entries.list_entries() == []
    assert base.is_file()
    assert entries.clean() == 50
    assert not base.exists()


def test_what_a_killed_process_left_is_removed_when_it_is_old() -> None:
    kept = put(entries.CHUNKS, "aa1", 1, time.time())
    old, fresh = (kept.with_name(f".{kept.name}.{pid}.abcd_123.new") for pid in (11, 12))
    for path, used in ((old, time.time() - 7200), (fresh, time.time())):
        path.mkdir()
        (path / kept.name).write_bytes(b"half")
        os.utime(path, (used, used))
    assert [entry.path for entry in entries.list_entries()] == [kept]
    assert not old.exists()
    assert fresh.exists()


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("0", 0), ("500MB", 500_000_000), ("5 GB", 5 * 10**9), ("1.5k", 1500), ("2t", 2 * 10**12)],
)
def test_sizes_are_read(text: str, n_bytes: int) -> None:
    assert entries.parse_size(text, source="--max-size") == n_bytes


@pytest.mark.parametrize("text", ["", "much", "-1", "5XB", "1e9", "GB"])
def test_what_is_no_size_is_refused_by_the_name_of_its_source(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match="--max-size is"):
        entries.parse_size(text, source="--max-size")
    if text:
        monkeypatch.setenv("D2L_CACHE_MAX_SIZE", text)
        with pytest.raises(OptionError, match="D2L_CACHE_MAX_SIZE is"):
            entries.max_bytes()
