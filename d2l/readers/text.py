"""Plain text, and Markdown cut at its headings.

Bytes in any encoding in, their text out, unchanged but for line ends and a byte order mark.
"""

import re
from collections.abc import Iterator
from html import unescape

from d2l.readers.parsing import Heading, Parsed, ParseRequest, Section, bound_text
from d2l.readers.plain_headings import find_plain_headings
from d2l.readers.sniff import Decoded, decode
from d2l.readers.tables import write_rows

ATX = re.compile(r" {0,3}#{1,6}(?=[ \t]|$)")
FENCE = re.compile(r" {0,3}(?P<mark>`{3,}(?=[^`]*$)|~{3,})")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
# In subtitles: tags, times of words, places on the screen; the tag of a voice has its name.
STYLE = re.compile(r"</?[a-z][^<>]{0,99}>|<[\d:.]+>|\{\\[^{}]*\}")
VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]{1,99})>")
#: Base64: long runs of letters of both cases and digits, in one line or many.
ENCODED = re.compile(
    r"(?=[a-zA-Z+/]{0,59}\d)(?=[\dA-Z+/]{0,59}[a-z])(?=[\da-z+/]{0,59}[A-Z])[\da-zA-Z+/]{60,}+"
    r"(?:\n[ \t]?[\da-zA-Z+/]{20,}+)*+={0,2}"
)
QUOTED = re.compile(r"=[C-F][0-9A-F]=[89AB][0-9A-F]|=3D\"")  # quoted-printable
LEAST_ENCODED, LEAST_QUOTED = 1000, 5
#: A head, a rule with both signs, rows.
PIPES = re.compile(r"^[^|\n]*\|.*\n(?=.*-)(?=.*\|)[-|: \t>]+$(?>\n[^|\n]*+\|.*)*+", re.M)
BORDER = re.compile(r"(?<!\\)\|")
NOT_PARAGRAPH = re.compile(r"[ \t]*([-*+>|]|\d+[.)])|( {4}|\t)|[ \t]*$")


def parse_text(request: ParseRequest) -> Parsed:
    """Read the whole text as one section, with the headings in it."""
    decoded = decode(request.data, request.name, request.encoding)
    text, notes = drop_encoded(decoded.text)
    section = Section(text, headings=tuple(find_plain_headings(text)))
    return Parsed(tuple(bound_text([section], request)), (*encoding_notes(decoded), *notes))


def drop_encoded(text: str) -> tuple[str, tuple[str, ...]]:
    """Leave out pictures and attachments in base64; note them, and text of an undecoded e-mail."""
    plain = ENCODED.sub(lambda run: "" if len(run[0]) >= LEAST_ENCODED else run[0], text)
    n_chars, n_quoted = len(text) - len(plain), len(QUOTED.findall(plain))
    notes = [f"{n_chars:,} characters of base64 (pictures or files) left out"] if n_chars else []
    if n_quoted >= LEAST_QUOTED:
        notes.append(f"{n_quoted:,} signs like =C3=A4; if it is an e-mail, give --format eml")
    return plain, tuple(notes)


def parse_subtitles(request: ParseRequest) -> Parsed:
    """Read the words of subtitles, a line for each, without numbers and times."""
    decoded = decode(request.data, request.name, request.encoding)
    cues = (block.partition("-->")[2].split("\n")[1:] for block in decoded.text.split("\n\n"))
    spoken = (VOICE.sub(r"\1: ", " ".join(lines)) for lines in cues)
    texts = (unescape(STYLE.sub("", text)).strip() for text in spoken)
    section = Section("\n".join(filter(None, texts)))
    return Parsed(tuple(bound_text([section], request)), encoding_notes(decoded))


def encoding_notes(decoded: Decoded) -> tuple[str, ...]:
    """Note a guessed encoding, since the guess may be wrong."""
    if not decoded.guessed:
        return ()
    return (f"read as {decoded.encoding} text; if characters look wrong, give --encoding",)


def split_markdown(text: str) -> Iterator[Section]:
    """Yield a section for each heading, and one for the text above the first."""
    lines = text.split("\n")
    cuts = [(0, 0, None), *find_headings(lines)]
    ends = [start for start, _, _ in cuts[1:]] + [len(lines)]
    for (start, level, title), end in zip(cuts, ends, strict=True):
        body = "\n".join(lines[start:end]).strip("\n")
        if body.strip():
            headings = () if title is None else (Heading(0, level, title),)
            yield Section(body, heading=title, headings=headings)


def name_cells(table: re.Match[str]) -> str:
    """Write the rows of a Markdown table as in every format."""
    lines = (BORDER.split(line.strip().strip("|")) for line in table[0].split("\n"))
    rows = [[cell.replace("\\|", "|") for cell in cells] for cells in lines]
    return "\n".join(write_rows([rows[0], *rows[2:]]))


def find_headings(lines: list[str]) -> Iterator[tuple[int, int, str | None]]:
    """Yield (line, level, title) of ATX and setext headings outside code and front matter."""
    fence = ""
    paragraph = -1  # first line of the paragraph of the line above; -1: none
    first = skip_front_matter(lines)
    for number, line in enumerate(lines[first:], start=first):
        opening = FENCE.match(line)
        if fence:
            mark = opening["mark"] if opening else ""
            if mark.startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif opening:
            fence, paragraph = opening["mark"], -1
        elif atx := ATX.match(line):
            yield number, atx[0].count("#"), read_title(line[atx.end() :]) or None
            paragraph = -1
        elif paragraph >= 0 and (underline := UNDERLINE.match(line)):
            level = 1 if underline[1].startswith("=") else 2
            yield paragraph, level, " ".join(part.strip() for part in lines[paragraph:number])
            paragraph = -1
        elif NOT_PARAGRAPH.match(line):
            paragraph = -1
        elif paragraph < 0 and (number == 0 or not lines[number - 1].strip()):
            paragraph = number


def read_title(text: str) -> str:
    """Read the title of an ATX heading after its marks, without spaces around it, and without
    closing marks after a space.

    Not a pattern: trying all ends of the title takes time with the square of the line.
    """
    title = text.strip(" \t")
    unmarked = title.rstrip("#")
    return unmarked.rstrip(" \t") if unmarked.endswith((" ", "\t")) else title


def skip_front_matter(lines: list[str]) -> int:
    """Count the lines of a YAML block between `---` lines at the top."""
    ends = (n for n, line in enumerate(lines[1:], start=2) if line.rstrip() in ("---", "..."))
    return next(ends, 0) if lines[0].rstrip() == "---" else 0
