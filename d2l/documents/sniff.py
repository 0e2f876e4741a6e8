"""What a file's bytes are: their format by content, and the encoding of text.

Takes bytes, gives a format name or decoded text; opens no files and parses no documents.
"""

import codecs
import re
from dataclasses import dataclass

import charset_normalizer

from d2l.errors import DocumentError

HEAD_BYTES = 1024  # PDF readers look for the header within so many bytes
MAX_CONTROL_SHARE = 0.01  # of control characters in something that is still text
SAMPLE_BYTES = 1 << 20  # of a text file, enough to tell its encoding

PDF_HEADER = re.compile(rb"%PDF-\d\.\d")
# Atomic and possessive: what was skipped is not tried again in another way, so a page's start
# takes one pass. With plain groups, a comment and a few spaces take time without end.
HTML_START = re.compile(
    rb"(?>\s+|<!--(?>.*?-->)|<\?xml[^>]*>)*+<(?:!doctype\s+html|html|head|body)[\s>]", re.I | re.S
)
HALVES = re.compile("[\ud800-\udfff]")  # utf-7 and unicode_escape can spell them
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
META_CHARSET = re.compile(
    rb"<meta[^>]*?charset\s*+=\s*+[\"']?\s*+([\w.:-]+)|<\?xml[^>]*?encoding"
    rb"\s*+=\s*+[\"']([\w.:-]+)",
    re.I,
)

BINARY = "binary data"
BINARY_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"GGUF", "a GGUF model"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript document"),
)  # the last two are ASCII, but their text is not the document's

ZIP_MEMBERS = (  # name of a member, as every ZIP spells it outside compressed data
    (b"word/document", "docx", "a DOCX document"),
    (b"META-INF/container.xml", "epub", "an EPUB book"),
    (b"xl/workbook", None, "an Excel workbook"),
    (b"ppt/presentation", None, "a PowerPoint presentation"),
    (b"application/vnd.oasis.opendocument", None, "an OpenDocument file"),
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
)  # on a tie the first wins: hangul fill rows that hold frequent hanzi and kanji too
MIN_EVERYDAY_SHARE = 0.85
# Latin alphabets that detectors of languages mix up: what else is in a text but ASCII.
LATIN_SIGNS = "¡¿«»‹›“”‘’„‚–—…•°§£€©®™·²³½ªº´¨\xa0"
LATIN_LETTERS = (
    ("cp1252", set("àâäáãåæçéèêëíìîïñóòôöõøœßúùûüÿ" + LATIN_SIGNS)),
    ("cp1254", set("çğıi̇öşüâîû" + LATIN_SIGNS)),
)
SINGLE_BYTE = ["cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257",
               "cp1258", "koi8_r", "koi8_u", "cp866", "cp437", "cp850", "iso8859_2", "iso8859_5",
               "iso8859_7", "iso8859_13", "cp874", "mac_roman"]  # fmt: skip


@dataclass(frozen=True)
class Content:
    """What bytes look like: a format name, or None for what no reader takes; and in words."""

    format: str | None
    words: str


@dataclass(frozen=True)
class Decoded:
    """Text, the encoding it was in, and whether that encoding was a guess."""

    text: str
    encoding: str
    guessed: bool = False


def sniff(data: bytes) -> Content:
    """Tell the format by content alone; `text` stands for every format of plain text."""
    if not data.strip(b"\x00 \t\r\n\x0c\xef\xbb\xbf"):
        return Content(None, "empty")
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n\x00")[:HEAD_BYTES]
    if PDF_HEADER.match(start) or is_late_pdf(data):
        return Content("pdf", "a PDF document")
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return sniff_zip(data)
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return sniff_old_office(data)
    for magic, words in BINARY_MAGIC:
        if data.startswith(magic):
            return Content(None, words)
    if HTML_START.match(start):
        return Content("html", "an HTML page")
    return Content("text", "text") if looks_like_text(data) else Content(None, BINARY)


def is_late_pdf(data: bytes) -> bool:
    """Whether a PDF begins after some junk, as mailers and printers put before it."""
    return bool(PDF_HEADER.search(data[:HEAD_BYTES])) and b"%%EOF" in data[-HEAD_BYTES:]


def sniff_zip(data: bytes) -> Content:
    """Tell what a ZIP holds by the names of its members, without unpacking anything."""
    for member, name, words in ZIP_MEMBERS:
        if member in data:
            return Content(name, words)
    return Content(None, "a ZIP archive")


def sniff_old_office(data: bytes) -> Content:
    """Tell an encrypted DOCX, which Word wraps in the old container, from old documents."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return Content(None, "an encrypted Office document")
    return Content(None, "an Office document of the old binary kind (.doc, .xls, .ppt)")


def looks_like_text(data: bytes) -> bool:
    """Whether some encoding makes text of the bytes, few control characters among it."""
    try:
        return bool(detect_encoding(data[:SAMPLE_BYTES], cut=len(data) > SAMPLE_BYTES))
    except UnicodeError:
        return False


def decode(data: bytes, name: str, encoding: str | None = None) -> Decoded:
    """Decode strictly, in the encoding given or detected; line ends become newlines."""
    found = encoding or detect_encoding(data[:SAMPLE_BYTES], cut=len(data) > SAMPLE_BYTES)
    if found and not encoding and not can_decode(data, found):
        found = detect_encoding(data)  # what follows the sample is not like it
    if not found:
        raise DocumentError(
            f"{name}: binary data, or text in an unknown encoding",
            hint="if it is text, name its encoding with --encoding, for example --encoding cp1251",
        )
    try:
        text = data.decode(found)
    except LookupError:
        raise DocumentError(
            f"{name}: there is no encoding called {found}",
            hint="use a name that Python knows, for example utf-8, cp1252, cp932 or gb18030",
        ) from None
    except UnicodeError:
        raise DocumentError(
            f"{name}: not valid {found} text",
            hint="name the right encoding with --encoding, or leave the option out",
        ) from None
    if HALVES.search(text):
        raise DocumentError(
            f"{name}: halves of characters, which are no text, when read as {found}",
            hint="name the right encoding with --encoding, or leave the option out",
        )
    plain = found in ("utf-8", "ascii") or any(data.startswith(bom) for bom, _ in BOMS)
    guessed = encoding is None and not plain
    return Decoded(normalize_newlines(text.removeprefix("\ufeff")), found, guessed)


def can_decode(data: bytes, encoding: str) -> bool:
    """Whether the bytes are valid in an encoding."""
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


def normalize_newlines(text: str) -> str:
    """End lines by newline alone; a lone carriage return counts where there is no other end."""
    text = text.replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")


def detect_encoding(data: bytes, *, cut: bool = False) -> str | None:
    """Name the encoding of text, or None for binary data; `cut` when more bytes follow.

    UTF-8 goes first, for text in other encodings is hardly ever valid UTF-8.
    """
    for bom, encoding in BOMS:
        if data.startswith(bom):
            return encoding
    if cut:  # end at a line, so that no character is cut in two
        data = data[: data.rfind(b"\n") + 1] or data
    if is_clean(data, "utf-8"):
        return "iso2022_jp" if b"\x1b$" in data and is_clean(data, "iso2022_jp") else "utf-8"
    if wide := detect_utf16(data):
        return wide
    if b"\x00" in data:
        return None
    return detect_double_byte(data) or detect_single_byte(data)


def is_clean(data: bytes, encoding: str) -> bool:
    """Whether the bytes are valid in an encoding and give hardly any control characters."""
    try:
        text = data.decode(encoding)
    except UnicodeError:
        return False
    if "\x00" in text:
        return False
    return len(CONTROLS.findall(text)) <= MAX_CONTROL_SHARE * len(text)


def detect_utf16(data: bytes) -> str | None:
    """Tell UTF-16 without a mark by its zeros: those of spaces and line ends, if no others."""
    if len(data) % 2 or b"\x00" not in data:
        return None
    n_little = sum(data.count(bytes((char, 0))) for char in b" \n")
    n_big = sum(data.count(bytes((0, char))) for char in b" \n")
    encoding = "utf-16-le" if n_little >= n_big else "utf-16-be"
    return encoding if max(n_little, n_big) and is_clean(data, encoding) else None


def detect_double_byte(data: bytes) -> str | None:
    """Tell an East Asian encoding by the share of everyday characters; works on a few words."""
    best, best_share = None, MIN_EVERYDAY_SHARE
    for encoding, everyday in EVERYDAY_LEADS:
        if not is_clean(data, encoding):
            continue
        leads = [raw[0] for raw in split_double_bytes(data, encoding)]
        n_everyday = sum(any(low <= lead <= high for low, high in everyday) for lead in leads)
        if len(leads) > 1 and n_everyday / len(leads) > best_share:
            best, best_share = encoding, n_everyday / len(leads)
    return best


def split_double_bytes(data: bytes, encoding: str) -> list[bytes]:
    """Give each character outside ASCII as its bytes; half-width kana count, as rare ones."""
    text = data.decode(encoding)
    return [char.encode(encoding) for char in text if char > "\x7f"]


def detect_single_byte(data: bytes) -> str | None:
    """Tell Western and Turkish text by its letters; for the rest ask charset-normalizer."""
    for encoding, letters in LATIN_LETTERS:
        if is_clean(data, encoding) and is_latin(data.decode(encoding), letters):
            return encoding
    best = charset_normalizer.from_bytes(data, cp_isolation=SINGLE_BYTE).best()
    if best is None or not is_clean(data, best.encoding):
        return None
    # Small letters of KOI8-R are capitals of cp1251 and the other way round.
    text = data.decode(best.encoding)
    if best.encoding == "cp1251" and sum(map(str.isupper, text)) > sum(map(str.islower, text)):
        swapped = data.decode("koi8_r")
        if sum(map(str.islower, swapped)) > 2 * sum(map(str.isupper, swapped)):
            return "koi8_r"
    return best.encoding


def is_latin(text: str, letters: set[str]) -> bool:
    """Whether text is mostly ASCII, and the rest one alphabet's; õ without ã is a misread ő."""
    others = [char for char in text.lower() if char > "\x7f"]
    n_ascii_letters = sum(char.isascii() and char.isalpha() for char in text)
    found = set(others)
    return (
        found <= letters
        and len(others) < 0.4 * n_ascii_letters
        and not ("õ" in found and "ã" not in found)
    )


def decode_html(data: bytes, name: str, encoding: str | None = None) -> Decoded:
    """Decode markup: a mark, then UTF-8, then what the page declares, then detection."""
    if encoding is None and not data.startswith(tuple(bom for bom, _ in BOMS)):
        declared = META_CHARSET.search(data[: 4 * HEAD_BYTES])
        found = (declared[1] or declared[2]).decode("ascii", "replace") if declared else ""
        if found and not is_clean(data, "utf-8"):
            try:
                return Decoded(normalize_newlines(data.decode(web_encoding(found))), found)
            except (LookupError, UnicodeError):
                return decode(data, name)
    return decode(data, name, encoding)


def web_encoding(label: str) -> str:
    """Read a page's label as browsers do: each old name stands for its Windows superset."""
    wider = {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252",
             "shift_jis": "cp932", "shift-jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030",
             "euc-kr": "cp949", "iso-8859-9": "cp1254"}  # fmt: skip
    return wider.get(label.lower(), label)
