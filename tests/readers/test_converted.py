"""Formats of the extra `formats`, e-mail and subtitles."""

import json
import subprocess
import sys
import time
from datetime import date
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path

import psutil
import pytest

from d2l.errors import DocumentError
from d2l.readers import converted
from tests.documents.samples import parse_here, read_bytes

SOURCE = b"""# Pump

The pump moves water.

| Pin | Signal |
|-----|--------|
| 15  | trigger output |
| 16  | ground |

# Sieve

Clean it weekly.
"""
ROWS = "Pin: 15 | Signal: trigger output\nPin: 16 | Signal: ground"


def write(format: str, source: bytes = SOURCE) -> bytes:
    """The sample in a format, by the extra's own writer."""
    pypandoc = pytest.importorskip("pypandoc")
    program = Path(pypandoc.__file__).parent / "files" / "pandoc"
    words = [str(program), "--from=markdown", f"--to={format}", "--standalone", "--output=-"]
    return subprocess.run(words, input=source, capture_output=True, check=True).stdout


def make_xlsx(rows: list[list[object]]) -> bytes:
    """A workbook of one sheet."""
    book = pytest.importorskip("openpyxl").Workbook()
    book.active.title = "Pins"
    for row in rows:
        book.active.append(row)
    out = BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.mark.parametrize("format", ["pptx", "odt", "ipynb", "rtf"])
def test_a_converted_document_keeps_headings_and_rows(format: str) -> None:
    document = read_bytes(write(format), f"a.{format}")
    assert document.format == format
    assert [s.heading for s in document.sections if s.heading in ("Pump", "Sieve")] == [
        "Pump",
        "Sieve",
    ]
    assert "The pump moves water." in document.text
    assert ("15 | trigger output\n16 | ground" if format == "rtf" else ROWS) in document.text


def test_speaker_notes_are_counted() -> None:
    slides = b"# Pump\n\nIt moves water.\n\n::: notes\nSay hello.\n:::\n"
    document = read_bytes(write("pptx", slides), "a.pptx")
    assert "Say hello." not in document.text
    assert document.notes == ("speaker notes of slides, which are not read: 1",)
    assert read_bytes(write("pptx"), "a.pptx").notes == ()


def test_a_workbook_is_read_row_by_row() -> None:
    rows = [["Pins of the board"], ["Pin", "Signal"], [15, "trigger output"], [16, "ground"]]
    document = read_bytes(make_xlsx(rows))
    assert (document.format, document.sections[0].heading) == ("xlsx", "Pins")
    assert document.text == f"Pins\nPins of the board\nPin | Signal\n{ROWS}"
    assert read_bytes(make_xlsx([[1, 2], [3, 4]])).text == "Pins\n1 | 2\n3 | 4"


def test_dates_of_a_workbook_are_dates() -> None:
    document = read_bytes(make_xlsx([["Day", "Weight"], [date(2026, 3, 1), 21.5]]))
    assert document.text == "Pins\nDay | Weight\nDay: 2026-03-01 | Weight: 21.5"


def test_the_cells_of_a_notebook_are_read_with_their_output() -> None:
    pytest.importorskip("pypandoc")
    code = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": ["print(6 * 7)"],
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["42"]}]}  # fmt: skip
    cells = [{"cell_type": "markdown", "metadata": {}, "source": ["# Sums\n", "Below."]}, code]
    book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    document = read_bytes(json.dumps(book).encode(), "a.ipynb")
    assert document.text == "Sums\n\nBelow.\n\nprint(6 * 7)\n\n42"


def test_without_the_extra_the_refusal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypandoc", None)
    with pytest.raises(DocumentError) as caught:
        parse_here(rb"{\rtf1 words}", "a.rtf")
    assert caught.value.message == "a.rtf: an RTF document needs a converter"
    assert caught.value.hint == "pip install 'd2l[formats]'"


def test_damage_is_one_line() -> None:
    for name, data in (("a.ipynb", b"{}"), ("a.xlsx", make_xlsx([[1]])[:-200]), ("a.odt", b"PK")):
        with pytest.raises(DocumentError, match=r"damaged or not a valid|no text in|not an Open"):
            read_bytes(data, name)


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="only Linux ends a program with its parent; elsewhere the time limit does",
)
def test_a_program_ends_with_its_parser() -> None:
    start = "from d2l.files.child_side import run_program; run_program(['sleep', '60'], b'')"
    with subprocess.Popen([sys.executable, "-c", start]) as parser:
        deadline = time.monotonic() + 60
        below = psutil.Process(parser.pid)
        while not (found := [p for p in below.children() if p.name() == "sleep"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parser.kill()
    assert psutil.wait_procs(found, timeout=10)[1] == []


def test_a_converter_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "HEAP_EXHAUSTED", 0)
    with pytest.raises(MemoryError):
        parse_here(write("odt"), "a.odt")


def test_an_include_in_rich_text_reaches_no_file(tmp_path: Path) -> None:
    pytest.importorskip("pypandoc")
    (tmp_path / "secret.txt").write_text("zqsecret")
    link = f'{{\\field{{\\*\\fldinst INCLUDETEXT "{tmp_path}/secret.txt"}}{{\\fldrslt }}}}'
    assert "zqsecret" not in read_bytes(f"{{\\rtf1 words {link}}}".encode(), "a.rtf").text


def make_mail(*, html: bool = False) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"] = "Prüfung der Pumpe", "Ada <ada@example.org>"
    message.set_content("The pump weighs 21 kg.\n" + "ä" * 90, cte="base64")
    if html:
        message.set_content("<p>The pump weighs <b>21 kg</b>.</p>", "html")
    message.add_attachment(b"\x00", "application", "octet-stream", filename="a.bin")
    return message.as_bytes()


@pytest.mark.parametrize("html", [False, True])
def test_mail_is_read_with_its_heads(html: bool) -> None:
    document = read_bytes(make_mail(html=html), "a.eml")
    assert document.text.startswith(
        "Subject: Prüfung der Pumpe\nFrom: Ada <ada@example.org>\n\nThe pump weighs 21 kg."
    )
    assert document.heading_path(0) == ("Prüfung der Pumpe",)
    assert document.notes == ("attachments that are not read: 1",)


def test_a_saved_page_is_read_without_its_pictures() -> None:
    head = "Subject: Pump\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary=XX\n\n"
    quoted = "<!DOCTYPE html><h1>Pump</h1><p>It costs 12 =E2=82=AC a=\n piece.</p>"
    page = (
        f"--XX\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n{quoted}\n"
    )
    picture = (
        "--XX\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAECAwQF\n--XX--\n"
    )
    document = read_bytes(f"{head}{page}{picture}".encode(), "a.mhtml")
    assert document.text == "Subject: Pump\n\nPump\n\nIt costs 12 € a piece."
    assert document.notes == ()


def test_subtitles_are_read_without_numbers_and_times() -> None:
    text = "1\n00:00:01,000 --> 00:00:04,000\n<i>Open</i> the\nvalve.\n\n2\n00:00:05,000 --> x\n7\n"
    assert read_bytes(text.encode(), "a.srt").text == "Open the valve.\n7"


def test_subtitles_are_read_without_signs_for_the_player_and_name_the_voice() -> None:
    cues = (
        "<v.loud Kari>Open <c.red>the</c><00:01.500> valve.</v>",
        "{\\an8}<font color='#ff0'>3 &lt; 4 &amp; x<4</font>",
    )
    text = "WEBVTT\n\n" + "\n\n".join(f"00:01.000 --> 00:02.000\n{cue}" for cue in cues)
    assert read_bytes(text.encode(), "a.vtt").text == "Kari: Open the valve.\n3 < 4 & x<4"
