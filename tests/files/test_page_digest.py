import random
from pathlib import Path

import pytest

from d2l.files.page_digest import page_digest


@pytest.fixture
def data() -> bytes:
    return random.Random(1).randbytes(5 * 4096 + 100)


def digest(data: bytes, folder: Path) -> str:
    (folder / "file").write_bytes(data)
    return page_digest(folder / "file")


def test_the_same_bytes_have_the_same_digest(data: bytes, tmp_path: Path) -> None:
    assert digest(data, tmp_path) == digest(data, tmp_path)
    assert digest(b"", tmp_path) != digest(b"\0", tmp_path)


def test_every_flipped_bit_of_some_is_seen(data: bytes, tmp_path: Path) -> None:
    sound, chance = digest(data, tmp_path), random.Random(2)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        assert digest(bytes(damaged), tmp_path) != sound


def test_lost_swapped_and_missing_pages_are_seen(data: bytes, tmp_path: Path) -> None:
    pages = [data[n : n + 4096] for n in range(0, len(data), 4096)]
    damaged = {
        "lost": [pages[0], bytes(4096), *pages[2:]],
        "swapped": [pages[1], pages[0], *pages[2:]],
        "cut": pages[:-1],
        "cut within a page": [*pages[:-1], pages[-1][:-1]],
        "longer by zeros": [*pages, b"\0"],
    }
    digests = {what: digest(b"".join(parts), tmp_path) for what, parts in damaged.items()}
    assert len({digest(data, tmp_path), *digests.values()}) == len(damaged) + 1


def test_files_of_more_than_a_block_are_read_whole(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = digest(data, tmp_path)
    monkeypatch.setattr("d2l.files.page_digest._BLOCK_PAGES", 2)
    assert digest(data, tmp_path) == whole
