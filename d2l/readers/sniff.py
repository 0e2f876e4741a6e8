"""Recognize the format of bytes by their content, and the encoding of text."""

import codecs
import re
from contextlib import suppress
from typing import NamedTuple

import charset_normalizer

from d2l.errors import DocumentError
from d2l.readers.formats import FORMATS

HEAD_BYTES = 1024  # PDF readers look for the header within so many bytes
MAX_CONTROL_SHARE = 0.01  # of control characters in something that is still text
SAMPLE_BYTES = 1 << 20  # of a text file, enough to recognize its encoding

PDF_HEADER = re.compile(rb"%PDF-\d\.\d")
# Atomic and possessive groups never backtrack, so a page's start takes one pass. With plain groups,
# a comment and a few spaces take time without end.
HTML_START = re.compile(
    rb"(?>\s+|<!--(?>.*?-->)|<\?xml[^>]*>)*+<(?:!doctype\s+html|html|head|body)[\s>]", re.I | re.S
)
XML_START = re.compile(
    rb"(?>\s+|<!--(?>.*?-->))*+<(?:\?xml\s|!doctype\s|[\w.:-]+\s[^<>]*\bxmlns[:=])", re.I | re.S
)
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
META_CHARSET = re.compile(
    rb"<meta[^>]*?charset\s*+=\s*+[\"']?\s*+([\w.:-]+)|<\?xml[^>]*?encoding"
    rb"\s*+=\s*+[\"']([\w.:-]+)",
    re.I,
)

BINARY = "binary data"
#: Beginnings of files that no reader takes.
MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x1f\x8b", "gzip data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"%!PS", "a PostScript document"),
)  # the last is ASCII, but its text is not the document's
#: Names of members, which every ZIP spells outside compressed data, and the format or its name.
ZIP_MEMBERS = (
    (b"word/document", "docx"),
    (b"META-INF/container.xml", "epub"),
    (b"xl/workbook.xml", "xlsx"),
    (b"xl/workbook", "an Excel workbook"),
    (b"ppt/presentation", "pptx"),
    (b"application/vnd.oasis.opendocument.text", "odt"),
    (b"application/vnd.oasis.opendocument", "an OpenDocument file"),
)
BOMS = (  # longest first: the UTF-32 mark begins like the UTF-16 one
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Double-byte encodings and the lead bytes of their everyday characters: each standard sorts
# frequent characters before rare ones, so text read in the wrong encoding shows rare leads.
EVERYDAY_LEADS = (
    ("cp932", ((0x81, 0x98),)),  # punctuation, kana, JIS level 1 kanji
    ("cp949", ((0xA1, 0xA3), (0xB0, 0xC8))),  # KS X 1001 hangul
    ("gb18030", ((0xA1, 0xA3), (0xB0, 0xD7))),  # GB 2312 level 1 hanzi
    ("euc_jp", ((0xA1, 0xA5), (0xB0, 0xCF))),  # the same rows as cp932
    ("big5", ((0xA1, 0xA3), (0xA4, 0xC6))),  # frequently used hanzi
)  # on a tie the first wins: rows of hangul also hold frequent hanzi and kanji
MIN_EVERYDAY_SHARE = 0.85
# Characters beyond ASCII of Latin alphabets that charset-normalizer confuses.
LATIN_SIGNS = "¡¿«»‹›“”‘’„‚–—…•°§£€©®™·²³½ªº´¨\xa0"
LATIN_LETTERS = (
    ("cp1252", set("àâäáãåæçéèêëíìîïñóòôöõøœßúùûüÿ" + LATIN_SIGNS)),
    ("cp1254", set("çğıi̇öşüâîû" + LATIN_SIGNS)),
)
SINGLE_BYTE = ["cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257",
               "cp1258", "koi8_r", "koi8_u", "cp866", "cp437", "cp850", "iso8859_2", "iso8859_5",
               "iso8859_7", "iso8859_13", "cp874", "mac_roman"]  # fmt: skip
#: Browsers read each old name of a page as its Windows superset.
WEB = {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "shift_jis": "cp932",
       "shift-jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030", "euc-kr": "cp949",
       "iso-8859-9": "cp1254"}  # fmt: skip


class Content(NamedTuple):
    """Recognized content: a format name, or None if no reader takes it; and its name in words."""

    format: str | None
    words: str


class Decoded(NamedTuple):
    """Text with its encoding; `guessed`: the encoding is a guess."""

    text: str
    encoding: str
    guessed: bool = False


def sniff(data: bytes) -> Content:
    """Recognize the format by content alone; "text" is every format of plain text."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n\x00")[:HEAD_BYTES]
    # Mailers and printers put junk before a PDF.
    is_late = PDF_HEADER.search(data[:HEAD_BYTES]) and b"%%EOF" in data[-HEAD_BYTES:]
    if PDF_HEADER.match(start) or is_late:
        return prove("pdf")
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        for member, name in ZIP_MEMBERS:
            if member in data:
                return prove(name) if name in FORMATS else Content(None, name)
        return Content(None, "a ZIP archive")
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        if "EncryptedPackage".encode("utf-16-le") in data:
            return Content(None, "an encrypted Office document")
        return Content(None, "an Office document of the old binary kind (.doc, .xls, .ppt)")
    if data.startswith(b"{\\rtf"):
        return prove("rtf")
    for magic, words in MAGIC:
        if data.startswith(magic):
            return Content(None, words)
    if HTML_START.match(start):
        return prove("html")
    if XML_START.match(start):
        return Content("xml", "an XML document")
    return Content("text", "text") if detect_sample(data) else Content(None, BINARY)


def prove(format: str) -> Content:
    """Make the content of a known format."""
    return Content(format, FORMATS[format].description)


def decode(data: bytes, name: str, encoding: str | None = None) -> Decoded:
    """Decode strictly, in the encoding given or detected; line ends become newlines."""
    used = encoding or detect_sample(data)
    if used and not encoding and not is_clean(data, used):
        used = detect_encoding(data)  # the rest differs from the sample
    if not used:
        raise DocumentError(
            f"{name}: binary data, or text in an unknown encoding",
            hint="if it is text, name its encoding with --encoding, for example --encoding cp1251",
        )
    try:
        text = data.decode(used)
        text.encode()  # utf-7 and unicode_escape can spell halves of characters
    except LookupError:
        raise DocumentError(
            f"{name}: there is no encoding called {used}",
            hint="use a name that Python knows, for example utf-8, cp1252, cp932 or gb18030",
        ) from None
    except UnicodeError:
        raise DocumentError(
            f"{name}: not valid {used} text",
            hint="name the right encoding with --encoding, or leave the option out",
        ) from None
    plain = used in ("utf-8", "ascii") or any(data.startswith(bom) for bom, _ in BOMS)
    guessed = encoding is None and not plain
    return Decoded(normalize_newlines(text.removeprefix("\ufeff")), used, guessed)


def decode_html(data: bytes, name: str, encoding: str | None = None) -> Decoded:
    """Decode markup by a byte order mark, else as UTF-8, else as declared, else by detection."""
    declared = META_CHARSET.search(data[: 4 * HEAD_BYTES])
    is_marked = data.startswith(tuple(bom for bom, _ in BOMS))
    if declared and encoding is None and not is_marked and not is_clean(data, "utf-8"):
        label = (declared[1] or declared[2]).decode("ascii", "replace")
        with suppress(LookupError, UnicodeError):
            text = data.decode(WEB.get(label.lower(), label))
            return Decoded(normalize_newlines(text), label)
    return decode(data, name, encoding)


def normalize_newlines(text: str) -> str:
    """End lines by newline alone; carriage returns end lines only if there are no newlines."""
    text = text.replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")


def detect_sample(data: bytes) -> str | None:
    """Detect the encoding of a text by its first lines; None for binary data."""
    sample = data[:SAMPLE_BYTES]
    if len(data) > SAMPLE_BYTES:  # end at a line, so that no character is cut in two
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    return detect_encoding(sample)


def detect_encoding(data: bytes) -> str | None:
    """Detect the encoding of text; None for binary data.

    UTF-8 is tried first: text in other encodings is hardly ever valid UTF-8.
    """
    for bom, encoding in BOMS:
        if data.startswith(bom):
            return encoding
    if is_clean(data, "utf-8"):
        return "iso2022_jp" if b"\x1b$" in data and is_clean(data, "iso2022_jp") else "utf-8"
    if b"\x00" in data:
        return None
    return detect_double_byte(data) or detect_single_byte(data)


def is_clean(data: bytes, encoding: str) -> bool:
    """True if the bytes are valid in an encoding and give hardly any control characters."""
    try:
        text = data.decode(encoding)
    except UnicodeError:
        return False
    return "\x00" not in text and len(CONTROLS.findall(text)) <= MAX_CONTROL_SHARE * len(text)


def detect_double_byte(data: bytes) -> str | None:
    """Detect an East Asian encoding by the share of everyday characters; a few words suffice."""
    best, best_share = None, MIN_EVERYDAY_SHARE
    for encoding, everyday in EVERYDAY_LEADS:
        if not is_clean(data, encoding):
            continue
        # Half-width kana count, as rare characters.
        leads = [char.encode(encoding)[0] for char in data.decode(encoding) if char > "\x7f"]
        n_everyday = sum(any(low <= lead <= high for low, high in everyday) for lead in leads)
        if len(leads) > 1 and n_everyday / len(leads) > best_share:
            best, best_share = encoding, n_everyday / len(leads)
    return best


def detect_single_byte(data: bytes) -> str | None:
    """Detect Western and Turkish text by its letters, other text by charset-normalizer."""
    for encoding, letters in LATIN_LETTERS:
        if is_clean(data, encoding) and is_latin(data.decode(encoding), letters):
            return encoding
    best = charset_normalizer.from_bytes(data, cp_isolation=SINGLE_BYTE).best()
    return best.encoding if best is not None and is_clean(data, best.encoding) else None


def is_latin(text: str, letters: set[str]) -> bool:
    """True if text is mostly ASCII, and the rest of one alphabet; õ without ã is a misread ő."""
    others = [char for char in text.lower() if char > "\x7f"]
    n_ascii_letters = sum(char.isascii() and char.isalpha() for char in text)
    used = set(others)
    return (
        used <= letters
        and len(others) < 0.4 * n_ascii_letters
        and not ("õ" in used and "ã" not in used)
    )
