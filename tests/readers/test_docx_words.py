"""d2l keeps every word of a Word document that LibreOffice finds, or tells that it is left out."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.samples import DOCS, parse_here
from tests.documents.words import find_missing, split_words, tally
from tests.readers.docx_cases import CASES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("soffice"), reason="needs LibreOffice"),
    pytest.mark.skipif(not shutil.which("pdftotext"), reason="needs poppler's pdftotext"),
]
SHARED = (DOCS / "paper.docx", DOCS.parent / "data" / "manuals" / "omega-character-inventory.docx")


def test_words_of_documents_are_kept_or_counted(tmp_path: Path) -> None:
    shared = [path for path in SHARED if path.is_file()]
    documents = [*CASES.values(), *((path.read_bytes(), "") for path in shared)]
    paths = [tmp_path / f"{number}.docx" for number in range(len(documents))]
    for path, (data, _) in zip(paths, documents, strict=True):
        path.write_bytes(data)
    office = ["soffice", f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}", "--headless"]
    for kind in ("txt:Text", "pdf"):
        command = [*office, "--convert-to", kind, "--outdir", tmp_path, *paths]
        subprocess.run(command, check=True, capture_output=True)
    names = [*CASES, *(path.name for path in shared)]
    n_words = n_kept = n_left_out = 0
    wrong = {}
    for name, path, (data, hidden) in zip(names, paths, documents, strict=True):
        document = parse_here(data, "a.docx")
        readings = [path.with_suffix(".txt").read_text("utf-8-sig")]
        if name in CASES:  # not on many pages, where heads of tables are printed again
            command = ["pdftotext", "-q", path.with_suffix(".pdf"), "-"]
            readings += [subprocess.run(command, stdout=-1, check=True).stdout.decode()]
        for reading in readings:
            found = tally(document, [reading])
            if found.lost or find_missing([*found.left_out.elements()], split_words(hidden)):
                wrong[name] = (found.lost, found.left_out)
            n_words, n_kept = n_words + found.words, n_kept + found.kept
            n_left_out += found.left_out.total()
    sys.stdout.write(
        f"{len(paths)} files: {n_words:,} words, {n_kept:,} kept, {n_left_out} left out, told\n"
    )
    assert not wrong
    assert n_words == n_kept + n_left_out
