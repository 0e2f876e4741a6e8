"""Markdown without hidden text: comments, unused definitions, hidden markup.

Bytes in, sections by heading and findings out. Markup is judged as on HTML pages; code stays
unchanged, tables become rows, and tags of site generators leave their titles.
"""

import re
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial

from d2l.readers.findings import Finding, gather
from d2l.readers.markdown_pieces import DEFINITION, TAG, MarkupPiece, cut
from d2l.readers.parsing import Parsed, ParseRequest, bound_text
from d2l.readers.sniff import decode
from d2l.readers.text import PIPES, drop_encoded, encoding_notes, name_cells, split_markdown

IN_COMMENT, UNUSED, NOT_DISPLAYED = "in a comment", "in an unused definition", "not displayed"
#: Elements whose text is never shown.
NOT_SHOWN = ("head", "script", "style", "template", "title")
# The number of a piece in the markup that is judged.
_MARK = re.compile("\ue000(\\d{1,9})\ue001")
# Comments and code of Liquid, Hugo and MDX; they become those of Markdown.
_COMMENT = re.compile(
    r"(?:\{%-?\s*comment\s*-?%\}|\{/\*)((?:[^{]|\{(?!/\*|%))*?)(?:\{%-?\s*endcomment\s*-?%\}|\*/\})"
)
_CODE = re.compile(
    r"^([ \t]*)\{[{%][%<-]?\s*(?:end|/)?highlight\b[ \t]*+([\w+-]*+)[^{}\n]*+\}{1,2}[ \t]*$", re.M
)
#: Tags of Liquid, Hugo, kramdown and JSX, imports and exports of MDX.
_GENERATOR = re.compile(
    r"\{%[^{}]*%\}|\{\{[%<][^{}]*[%>]\}\}|\{:\s*(?:[.#]|toc|[\w-]+=)[^{}\n]*\}"
    r"|[ \t]\{#[\w. -]+\}[ \t]*$|</?(?P<name>[A-Z](?=\w*[a-z])\w*+)(?:\s(?:=>|[^<>])*)?/?>"
    r"|^import [\w*${}, \n]{0,999}[\"'][^\"'\n]+[\"'];?[ \t]*$"
    r"|^export (?:const|let|function|default) .+(?>\n.+)*+",
    re.M,
)
_TITLE = re.compile(
    r"\b(?:(?:title|label|caption|summary|text)(?:=|: )|(?:tab|expand|details) )([\"'])([^\n]+?)\1"
)
_TABLE = re.compile(r"<table\b(?:[^<]|<(?!table\b))*?</table>")
_PARAGRAPH = "d2l-paragraph"
_LABEL = re.compile(r"\[((?:[^\[\]\\]|\\.){1,999})\]")
_MAY_HIDE = re.compile("=|hidden|popover", re.I)  # in a tag
_COMMENT_SIGNS = re.compile(r"^<!?-{0,2}|-{0,2}>$")
_PLAIN_TAGS = frozenset((
    "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt",
    "footer", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "html", "li", "main", "ol",
    "p", "pre", "script", "section", "style", "summary", "table", "tbody", "td", "template",
    "th", "thead", "title", "tr", "ul",
))  # fmt: skip


def parse_markdown(request: ParseRequest) -> Parsed:
    """Cut at headings; headings and code stay unchanged, hidden text is left out unless the request
    includes it."""
    decoded = decode(request.data, request.name, request.encoding)
    plain, encoded = drop_encoded(decoded.text)
    plain = replace(replace(plain, _COMMENT, r"<!--\1-->"), _CODE, r"\1```\2")
    text, findings, notes = remove_hidden(plain, request)
    closed = set(re.findall(r"</(\w+)>", text))
    text = replace(text, _GENERATOR, partial(write_titles, closed=closed))
    text = replace(text, PIPES, name_cells, in_lines=True)
    text = replace(text, _TABLE, partial(write_table, request=request))
    sections = bound_text(split_markdown(text), request)
    return Parsed(tuple(sections), (*encoding_notes(decoded), *encoded, *notes), findings)


def replace(
    text: str, tag: re.Pattern[str], written: str | Callable[..., str], *, in_lines: bool = False
) -> str:
    """Replace tags outside of code; `in_lines`: also around and in the code of a paragraph."""
    stretches, at, is_line = list[str](), 0, False
    for piece in cut(text) if tag.search(text) else ():
        is_line = piece.kind == "start" or (is_line and piece.kind != "end")
        if piece.kind == "code" and not (in_lines and is_line):
            stretches += [tag.sub(written, text[at : piece.start]), text[piece.start : piece.end]]
            at = piece.end
    return "".join([*stretches, tag.sub(written, text[at:])])


def write_titles(tag: re.Match[str], closed: Container[str]) -> str:
    """Write the titles in a tag; a name in angle brackets that nothing closes is text."""
    if tag["name"] and not tag[0].endswith("/>") and tag["name"] not in closed:
        return tag[0]
    titles = ", ".join(title for _, title in _TITLE.findall(tag[0]))
    return titles and f"{titles} "


def write_table(table: re.Match[str], request: ParseRequest) -> str:
    """Write the rows of a table in markup as in every format."""
    from d2l.readers.html import parse_tree, split_page

    tree = parse_tree(table[0], request)
    page = split_page(tree, sheets=(), include_hidden=request.include_hidden)
    return table[0] if page.dropped else "\n\n".join(section.text for section in page.sections)


def remove_hidden(
    text: str, request: ParseRequest
) -> tuple[str, tuple[Finding, ...], tuple[str, ...]]:
    """Remove hidden text, unless the request includes it: (text, findings, notes). Raises
    DocumentError if the markup is nested too deeply."""
    if "<" not in text and "]:" not in text:
        return text, (), ()
    pieces = list(cut(text))
    hidden = find_plainly_hidden(text, pieces)
    notes: tuple[str, ...] = ()
    if any(piece.kind == "tag" for piece in pieces):
        by_markup, notes = find_hidden_by_markup(text, pieces, request)
        hidden = {**by_markup, **hidden}
    findings = gather(
        Finding("hidden", reason, n_chars)
        for number, reason in sorted(hidden.items())
        if (n_chars := count_chars(text, pieces[number]))
    )
    if request.include_hidden:
        return text, findings, notes
    return "".join(list_visible(text, pieces, hidden)), findings, notes


def list_visible(text: str, pieces: Iterable[MarkupPiece], hidden: Iterable[int]) -> Iterator[str]:
    """Yield the stretches of a text around its hidden pieces."""
    numbers, at = set(hidden), 0
    for number, piece in enumerate(pieces):
        if number in numbers:
            yield text[at : piece.start]
            at = piece.end
    yield text[at:]


def count_chars(text: str, piece: MarkupPiece) -> int:
    """Count the characters of a hidden piece, without spaces and marks."""
    content = text[piece.start : piece.end]
    if piece.kind == "tag":
        return 0
    if piece.kind == "comment":
        content = _COMMENT_SIGNS.sub("", content)
    return sum(map(len, content.split()))


def find_plainly_hidden(text: str, pieces: list[MarkupPiece]) -> dict[int, str]:
    """Find comments, and definitions of links that no link uses, by number of piece."""
    hidden = {n: IN_COMMENT for n, piece in enumerate(pieces) if piece.kind == "comment"}
    defined = [n for n, piece in enumerate(pieces) if piece.kind == "definition"]
    if defined:
        used = set(find_used(text, pieces))
        for number in defined:
            definition = DEFINITION.match(text, pieces[number].start, pieces[number].end)
            assert definition is not None  # the pattern that made the piece
            # "[Name]: word" mostly quotes a person.
            is_link = definition["title"] or re.search("[/#:@<]", definition["where"])
            if is_link and fold(definition["label"]) not in used:
                hidden[number] = UNUSED
    return hidden


def find_used(text: str, pieces: Iterable[MarkupPiece]) -> Iterator[str]:
    """Yield the texts in brackets outside of definitions, folded."""
    paragraph: list[str] = []
    for piece in pieces:
        if piece.kind in ("text", "code"):
            paragraph.append(text[piece.start : piece.end])
        elif piece.kind in ("start", "end"):
            yield from (fold(match[1]) for match in _LABEL.finditer("".join(paragraph)))
            paragraph = []
    yield from (fold(match[1]) for match in _LABEL.finditer("".join(paragraph)))


def fold(label: str) -> str:
    """Fold a label for comparison: letters of any case, and spaces of any length."""
    return " ".join(label.casefold().split())


def find_hidden_by_markup(
    text: str, pieces: list[MarkupPiece], request: ParseRequest
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Find pieces that styles, attributes or elements hide: (reasons by number, notes)."""
    # Not imported at the top: text without markup does not need the libraries.
    from d2l.readers.html import parse_tree
    from d2l.readers.html_hidden import find_hidden, own_texts

    root = parse_tree("".join(write_markup(text, pieces)), request)
    reasons: dict[int, str] = {}

    def note(texts: Iterable[str], reason: str) -> None:
        numbers = [int(mark) for mark in _MARK.findall("".join(texts))]
        if any(count_chars(text, pieces[n]) for n in numbers):
            reasons.update((n, reasons.get(n, reason)) for n in numbers)

    for element in root.iter(*NOT_SHOWN):
        note(element.itertext(), NOT_DISPLAYED)
    unseen, notes = find_hidden(root)
    for hidden in unseen:
        element = hidden.element
        note(element.itertext() if hidden.is_whole else own_texts(element), hidden.reason)
    return reasons, notes


def write_markup(text: str, pieces: list[MarkupPiece]) -> Iterator[str]:
    """Yield the markup of a text, with numbers of pieces instead of their words, also inside the
    elements that tags open and close; the numbers are comments for style sheets."""
    yield "<body>"
    in_style = False
    for number, piece in enumerate(pieces):
        mark = f"/*\ue000{number}\ue001*/"
        if piece.kind == "start":
            yield f"<{_PARAGRAPH}>"
        elif piece.kind == "end":
            yield f"</{_PARAGRAPH}>"
        elif piece.kind == "tag":
            tag = TAG.fullmatch(text, piece.start, piece.end)
            assert tag is not None  # the pattern that made the piece
            name, is_end = tag["name"].lower(), bool(tag["slash"])
            in_style = not is_end if name == "style" else in_style
            # A bare name in angle brackets is mostly a placeholder, which nothing closes.
            is_written = is_end or name in _PLAIN_TAGS or _MAY_HIDE.search(tag["rest"])
            written = tag[0].replace("\ue000", "") if is_written else ""
            yield mark + written if is_end else written + mark
        else:
            yield mark
            if in_style and piece.kind != "comment":
                yield text[piece.start : piece.end].replace("\ue000", "")
