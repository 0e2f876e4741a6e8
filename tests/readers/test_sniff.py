import time

import pytest

from d2l.errors import DocumentError
from d2l.readers.sniff import decode, decode_html, sniff
from tests.documents import samples
from tests.documents.samples import read_bytes

RUSSIAN = "Привет, как дела? Это обычный русский текст для проверки кодировки."
JAPANESE = "これは日本語の文章です。"


def test_wrong_encoding_given_is_refused() -> None:
    with pytest.raises(DocumentError) as caught:
        decode(b"caf\xe9", "a.txt", "utf-8")
    assert caught.value.message == "a.txt: not valid utf-8 text"
    with pytest.raises(DocumentError, match=r"^a.txt: there is no encoding called klingon$"):
        decode(b"x", "a.txt", "klingon")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "cp866"),
        (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        ("这是一个测试文件,用来检查编码。", "gb18030"),
        ("這是一個測試文件,用來檢查編碼。", "big5"),
        ("한국어 문서입니다. 인코딩을 확인합니다.", "euc_kr"),
        ("Voilà les élèves français, près de la forêt.", "cp1252"),
        ("Das Mädchen hört schöne Musik über große Straßen.", "latin-1"),
        ("Zażółć gęślą jaźń, proszę państwa. Książka leży na stole.", "cp1250"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy", "cp1250"),
        ("Árvíztűrő tükörfúrógép, jó napot kívánok mindenkinek", "cp1250"),
        ("Türkçe bir metin: şu ağaç çok güzel, ığdır", "cp1254"),
        ("Ελληνικό κείμενο για δοκιμή της κωδικοποίησης", "cp1253"),
        ("café", "cp1252"),
    ],
)
def test_short_text_in_old_encodings_is_read_right_and_noted(text: str, encoding: str) -> None:
    document = read_bytes(text.encode(encoding), "a.txt")
    assert document.text == text
    (note,) = document.notes
    assert note.startswith("read as ")
    assert note.endswith(" text; if characters look wrong, give --encoding")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_with_a_mark_or_utf8_needs_no_note(encoding: str) -> None:
    document = read_bytes(f"{RUSSIAN}\r\n{JAPANESE}\r\n".encode(encoding), "a.txt")
    assert document.text == f"{RUSSIAN}\n{JAPANESE}\n"
    assert document.notes == ()


def test_encoding_option_is_followed_without_a_note() -> None:
    document = read_bytes(RUSSIAN.encode("cp1251"), "a.txt", encoding="koi8-r")
    assert document.text == RUSSIAN.encode("cp1251").decode("koi8-r")
    assert document.notes == ()


def test_accent_after_the_sample_changes_the_encoding() -> None:
    data = b"plain words\n" * 100_000 + "déjà vu".encode("cp1252")
    assert decode(data, "a.txt").text.endswith("déjà vu")


@pytest.mark.parametrize(
    "declaration",
    ['<meta charset="shift_jis">', '<meta http-equiv="x" content="text/html; charset=Shift_JIS">'],
)
def test_page_declares_its_encoding(declaration: str) -> None:
    page = f"<html><head>{declaration}</head><body>髙橋</body></html>"
    assert "髙橋" in decode_html(page.encode("cp932"), "a.html").text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7\n...", "a PDF document"),
        (b"\xef\xbb\xbf\n%PDF-1.7\n...", "a PDF document"),
        (b"From: a mailer\n%PDF-1.7\n...\n%%EOF\n", "a PDF document"),
        (b"The header of a file is %PDF-1.7, as a rule.", "text"),
        (b"<!-- note --><!DOCTYPE HTML><p>x", "an HTML page"),
        (b"<?xml version='1.0'?>\n<html xmlns='x'>", "an HTML page"),
        (b"<header>", "text"),
        (b"\x00\x01\x02\x03" * 9, "binary data"),
        (b"ANSI \x1b[1mbold\x1b[0m", "text"),
    ],
)
def test_content_is_told_apart(data: bytes, words: str) -> None:
    assert sniff(data).words == words


@pytest.mark.parametrize(
    "start",
    [
        '<svg xmlns="http://www.w3.org/2000/svg">',
        "<?xml version='1.0'?>\n<office:document>",
        "<!-- note -->\n<TEI xmlns='http://www.tei-c.org/ns/1.0'>",
        "<!DOCTYPE book PUBLIC '-//OASIS//DTD DocBook XML V4.5//EN'><book>",
        "<article version='5.0' xmlns:d='x'>",
    ],
)
def test_xml_that_is_no_page_is_refused_unless_its_source_is_asked_for(start: str) -> None:
    data = f"{start}Valve 7".encode()
    for name in ("a.xml", "a.txt", "sample"):
        with pytest.raises(DocumentError, match=r": this is an XML document$") as caught:
            read_bytes(data, name)
        assert "pandoc" in str(caught.value.hint)
    assert read_bytes(data, "a.xml", format="text").text.endswith("Valve 7")
    assert read_bytes(data + b"\n\n# A", "a.md").format == "markdown"


def test_short_shift_jis_file_is_read_right() -> None:
    document = samples.read_shared("legacy-encoding-mskanji.csv")
    assert document.text == (
        "名前 | 年齢 | 住所\n名前: 佐藤太郎 | 年齢: 30 | 住所: 東京\n"
        "名前: 三木英子 | 年齢: 25 | 住所: 大阪\n名前: 髙橋淳 | 年齢: 35 | 住所: 名古屋"
    )
    assert document.notes == ("read as cp932 text; if characters look wrong, give --encoding",)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"<!-- x -->" + b" " * 900 + b"# Title", "text"),
        (b"<!-- x -->\n" * 90 + b"# Title", "text"),
        (b"<!-- x -->\n" * 80 + b"<html>", "an HTML page"),
        (b"<!--" * 250, "text"),
        (b"<!-- a --> text <!-- b --><html>", "text"),  # a comment ends where it ends first
    ],
)
def test_comments_and_spaces_above_a_text_take_no_time(start: bytes, words: str) -> None:
    """With a pattern that tries every way to divide them this would take years."""
    began = time.process_time()
    assert sniff(start).words == words
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("data", "encoding"), [(b"abc +2AA- def.", "utf-7"), (b"abc \\udc80.", "unicode_escape")]
)
def test_halves_of_characters_are_refused(data: bytes, encoding: str) -> None:
    with pytest.raises(DocumentError) as caught:
        decode(data, "a.txt", encoding)
    assert caught.value.message == f"a.txt: not valid {encoding} text"
