"""What of a DOCX document's markup stands for its text: one of alternatives, results of fields.

Takes the tree of a part, leaves in it what a program shows; knows no styles. What goes is no
text of the document, like the code of a field: it is not counted as hidden.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

import lxml.etree

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
COMPATIBLE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
ALTERNATES, CHOICE = COMPATIBLE + "AlternateContent", COMPATIBLE + "Choice"
SYMBOL = "{http://schemas.microsoft.com/office/word/2015/wordml/symex}symEx"
_NUMBER = re.compile(r"0{0,4}(?:10|[0-9A-Fa-f])?[0-9A-Fa-f]{2,4}")
STORIES = (W + "txbxContent", W + "footnote", W + "endnote")  # a field ends in the one it began in
RUNS = (W + "r", MATH + "r")
#: Fields whose result is not shown: they name a text, or mark one for a table or an index.
SILENT = frozenset(("ASK", "PRIVATE", "RD", "SET", "TA", "TC", "XE"))
_MICROSOFT = "http://schemas.microsoft.com/office/"
_OPEN = "http://schemas.openxmlformats.org/"
#: Namespaces that Word knows: of alternatives, it shows the first that needs none but these.
KNOWN = frozenset(
    [f"{_MICROSOFT}word/{name}" for name in (
        "2006/wordml", "2010/wordml", "2010/wordprocessingCanvas", "2010/wordprocessingDrawing",
        "2010/wordprocessingGroup", "2010/wordprocessingInk", "2010/wordprocessingShape",
        "2012/wordml", "2012/wordprocessingDrawing", "2015/wordml/symex", "2016/wordml/cid",
        "2018/wordml", "2018/wordml/cex", "2020/wordml/sdtdatahash", "2023/wordml/word16du",
        "2024/wordml/sdtformatlock",
    )]
    + [f"{_MICROSOFT}drawing/{name}" for name in (
        "2007/8/2/chart", "2008/diagram", "2010/chartDrawing", "2010/diagram", "2010/main",
        "2010/picture", "2012/chart", "2012/main", "2014/chart", "2014/chartex", "2014/main",
        "2015/10/21/chartex", "2015/9/8/chartex", "2016/11/main", "2016/5/10/chartex",
        "2016/5/11/chartex", "2016/5/12/chartex", "2016/5/13/chartex", "2016/5/14/chartex",
        "2016/5/9/chartex", "2016/SVG/main", "2016/ink", "2017/decorative", "2017/model3d",
    )]
    + [f"{_OPEN}{name}" for name in (
        "drawingml/2006/chart", "drawingml/2006/chartDrawing", "drawingml/2006/diagram",
        "drawingml/2006/main", "drawingml/2006/picture", "drawingml/2006/wordprocessingDrawing",
        "officeDocument/2006/math", "officeDocument/2006/relationships",
        "wordprocessingml/2006/main",
    )]
    + [f"urn:schemas-microsoft-com:{name}" for name in ("vml", "office:office", "office:word")]
    + [f"{_MICROSOFT}2019/extlst"]
)  # fmt: skip

_FIND_MARKED = lxml.etree.XPath(
    "descendant-or-self::*[@mc:Ignorable]", namespaces={"mc": COMPATIBLE[1:-1]}
)


def settle(root: Any) -> None:
    """Leave in the tree of a part what is shown of it, as ISO 29500-3 says and Word does."""
    _drop_ignorable(root)
    for alternates in list(root.iter(ALTERNATES)):
        _choose(alternates)
    for row in list(root.iter(W + "tr")):
        if row.find(f"{W}trPr/{W}del") is not None:
            _drop(row)
    for deleted in list(root.iter(W + "del", W + "moveFrom")):
        _drop(deleted)
    for symbol in list(root.iter(SYMBOL)):
        _spell(symbol)
    _drop_fields(root)


def _drop(element: Any) -> None:
    if (parent := element.getparent()) is not None:
        parent.remove(element)


def _unwrap(element: Any) -> None:
    """Put what is in an element in its place."""
    if element.getparent() is not None:
        for child in list(element):
            element.addprevious(child)
        _drop(element)


def _drop_ignorable(root: Any) -> None:
    """Drop the elements that a document says may be ignored, where Word knows none of their kind;
    what is in them stays where the document says so."""
    for marked in _FIND_MARKED(root):
        spaces = marked.nsmap
        unknown = {spaces.get(name) for name in marked.get(COMPATIBLE + "Ignorable").split()}
        unknown -= KNOWN | {None}
        if not unknown:
            continue
        opened = {
            f"{{{spaces.get(prefix)}}}{name}"
            for prefix, _, name in (
                word.partition(":")
                for word in marked.get(COMPATIBLE + "ProcessContent", "").split()
            )
        }
        for element in list(marked.iterdescendants(*(f"{{{space}}}*" for space in unknown))):
            is_open = {element.tag, element.tag.partition("}")[0] + "}*"} & opened
            (_unwrap if is_open else _drop)(element)


def _choose(alternates: Any) -> None:
    """Put the alternative that is shown in the place of all; none of them may be."""
    for child in list(alternates):
        if child.tag == CHOICE:
            needed = (child.get("Requires") or "?").split()
            if not all(child.nsmap.get(name) in KNOWN for name in needed):
                continue
        elif child.tag != COMPATIBLE + "Fallback":
            continue
        alternates.addprevious(child)
        _unwrap(child)
        break
    _drop(alternates)


def _spell(symbol: Any) -> None:
    """Put a symbol that Word names by its number, like those of smileys, in its place as text."""
    number = symbol.get(SYMBOL.replace("symEx", "char")) or ""
    if _NUMBER.fullmatch(number) and (char := chr(int(number, 16))).isprintable():
        text = symbol.makeelement(W + "t")
        text.text = char
        symbol.addprevious(text)
    _drop(symbol)


def _drop_fields(root: Any) -> None:
    """Drop the code of fields where it is written as text, and results that are not shown."""
    for field in list(root.iter(W + "fldSimple")):
        if _is_silent(field.get(W + "instr", "")):
            _drop(field)
    if next(root.iter(W + "fldChar"), None) is None:
        return
    stories: dict[Any, list[Any]] = {}
    for run in root.iter(*RUNS):
        story = next(run.iterancestors(*STORIES), root)
        stories.setdefault(story, []).extend(run.iterchildren())
    for parts in stories.values():
        for part in list(_find_code(parts)):
            _drop(part)


def _find_code(parts: list[Any]) -> Iterator[Any]:
    """Yield the parts of runs that fields do not show: all up to their result, or that too.

    A field without an end is none: nothing of it is left out.
    """
    changes = [0] * (len(parts) + 1)
    fields: list[tuple[int, int | None, list[str]]] = []  # where each begins, its result, its code
    for at, part in enumerate(parts):
        kind = part.get(W + "fldCharType") if part.tag == W + "fldChar" else None
        if kind == "begin":
            fields.append((at, None, []))
        elif kind == "separate" and fields:
            start, result, code = fields.pop()
            fields.append((start, at if result is None else result, code))
        elif kind == "end" and fields:
            start, result, code = fields.pop()
            changes[start] += 1
            changes[at if result is None or _is_silent("".join(code)) else result] -= 1
        elif part.tag == W + "instrText" and fields and fields[-1][1] is None:
            fields[-1][2].append(part.text or "")
    yield from _where(parts, accumulate(changes))


def _where(parts: Iterable[Any], depths: Iterable[int]) -> Iterator[Any]:
    """Yield the parts that are inside of something, but not the properties of their runs."""
    for part, depth in zip(parts, depths, strict=False):
        if depth > 0 and part.tag != W + "rPr":
            yield part


def _is_silent(code: str) -> bool:
    return (code.split() or [""])[0].upper() in SILENT
