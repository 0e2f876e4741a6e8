"""d2l keeps every word of a PDF that pdftotext finds, or tells that it is left out."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2l.documents.document import Source
from d2l.documents.read import read_document
from tests.documents.samples import DOCS, parse_here, read_shared
from tests.documents.words import find_missing, split_words, tally
from tests.readers.pdf.word_cases import list_cases
from tests.slow import slow_after

pytestmark = pytest.mark.skipif(not shutil.which("pdftotext"), reason="needs poppler's pdftotext")

MANUALS = DOCS.parent / "data" / "manuals"
SHARED = (
    "multicolumn.pdf", "invoice-borderless-table.pdf", "habibi-arabic.pdf",
    "encrypted-user-password.pdf", "encrypted-empty-password.pdf", "malformed-helloworld-bad.pdf",
    "rtklib-manual-ch1-3.pdf", "debian-faq.ru.pdf", "developers-reference.pdf",
)  # fmt: skip


def read_with_poppler(path: Path, password: str = "") -> Iterator[str]:
    """Yield the text of a PDF in the order of reading, by its lines, and as it is painted."""
    command = ["pdftotext", "-q", "-enc", "UTF-8", "-upw", password, str(path), "-"]
    for mode in ((), ("-layout",), ("-raw",)):
        yield subprocess.run([*command, *mode], stdout=-1, check=True).stdout.decode()


def report(what: str, n_words: int, n_kept: int, n_left_out: int) -> None:
    """Print totals: pytest -rP shows them."""
    sys.stdout.write(f"{what}: {n_words:,} words, {n_kept:,} kept, {n_left_out} left out, told\n")


def test_words_of_pages_are_kept_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    n_words = n_kept = n_left_out = n_files = 0
    wrong = {}
    for name, data, hidden in list_cases():
        path.write_bytes(data)
        found = tally(parse_here(data, "a.pdf"), read_with_poppler(path))
        if found.lost or find_missing([*found.left_out.elements()], split_words(hidden)):
            wrong[name] = (found.lost, found.left_out)
        n_files, n_words, n_kept = n_files + 1, n_words + found.words, n_kept + found.kept
        n_left_out += found.left_out.total()
    report(f"{n_files} files", n_words, n_kept, n_left_out)
    assert not wrong
    assert n_words == n_kept + n_left_out
    assert n_files >= 50


@pytest.mark.parametrize("name", slow_after(6, *SHARED))
def test_words_of_real_files_are_kept_or_counted(name: str) -> None:
    path = next((folder / name for folder in (DOCS, MANUALS) if (folder / name).is_file()), None)
    if path is None:
        pytest.skip("the sample documents are not beside this checkout")
    password = "asdfzxcv" if "user" in name else None
    if path.parent == DOCS:
        document = read_shared(name, password)
    else:
        document = read_document(Source(name, path=path))
    found = tally(document, read_with_poppler(path, password or ""))
    report(name, found.words, found.kept, found.left_out.total())
    assert not found.lost
    assert found.kept > 0.95 * found.words
