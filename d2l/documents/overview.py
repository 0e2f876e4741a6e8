"""Overview of a document: title, length, beginning and outline as a text, made without a model."""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

from d2l.documents.chunks import Tokenizer
from d2l.documents.document import Document
from d2l.documents.sentences import find_sentences
from d2l.readers.parsing import CELL
from d2l.words import join

#: Most of the limit for title, length and outline; the beginning gets the rest.
_OUTLINE = 0.55
#: Least share of sentences in a text that is not shown line by line: a table, an invoice.
_LEAST_SENTENCES = 0.25
#: Headings and sentences among which a document introduces itself; longest sentence shown.
_FIRST_HEADINGS, _FIRST_SENTENCES, _LONG = 12, 150, 500
_END = (".", "!", "?", ":", "。", "！", "？", "।", "؟")
_CLOSING = " \n\"'”’»)]*_"
_MARK = re.compile(r"^[#>*\s]+|[*\s]+$")
_WORD, _LETTER = re.compile(r"\w+"), re.compile(r"[^\W\d_]")
_CHAPTER = re.compile(rf"(?:{join('chapter')})\b", re.IGNORECASE)
_NUMBERED = re.compile(r"\d{1,3}(?:\.\d{1,4}){0,7}[.:)]? ")
#: Headings in plain text: Markdown's, and numbers with a title between empty lines.
_HEADING = re.compile(
    r"^(?P<marks>#{1,6}) +\S.*"
    r"|(?:\A|(?<=\n\n))(?P<number>\d+(?:\.\d+)*)\.? +\S[^\n]{2,80}(?<![.:;,])(?=\n\n)",
    re.MULTILINE,
)
_CONTENTS = re.compile(join("contents"), re.IGNORECASE)
_NOTICE = re.compile(
    join("notice") + r"|©"
    r"|\.\.\.$|…$|\.{4}|(?:\. ){3}|(?:\.{3}|…) ?\d|\d\.\d+\.$|^\$ ",  # contents; a command
    re.IGNORECASE,
)
_LEGAL = re.compile(rf"[\W\d]{{0,20}}(?:{join('legal')})", re.IGNORECASE)
_INTRODUCTION = re.compile(rf"\b(?:{join('introduction')})", re.IGNORECASE)
_ITSELF = re.compile(
    rf"(?:{join('this')}) (?:\w+ )?(?:{join('itself')})|.*\b(?:{join('for_whom')})\b", re.IGNORECASE
)

#: Stretch of a text, [start, stop).
Span = tuple[int, int]


class _Entry(NamedTuple):
    """A heading of the outline; depth 0 is the outermost."""

    start: int
    depth: int
    title: str


def write_overview(document: Document, tokenizer: Tokenizer, limit: int) -> str:
    """Write title, length, beginning and outline of a document in at most `limit` tokens, of which
    title and length may take a hundred.

    Sentences about the document and its introduction come first, then first sentences of chapters.
    Deep headings are left out first, and evenly, so that the outline reaches the end.
    """
    sentences = _find_sentences(document)
    title, entries = _find_title(document, _list_entries(document), sentences)
    head = f"Title: {title}\nLength: {_describe_length(document, entries)}"
    order = _spread(entries)[:limit]
    spans = _rank(document, entries, sentences)[: limit // 3]

    def write(n_entries: int, n_spans: int) -> str:
        text = _join(document.text, sorted(spans[:n_spans]))
        outline = _write_outline(document, order[:n_entries], cut=n_entries < len(entries))
        return "\n".join(filter(None, (head, f"Beginning: {text}" if text else "", outline)))

    def count(n_entries: int, n_spans: int) -> int:
        return len(tokenizer.encode(write(n_entries, n_spans)))

    counts = range(1, len(order) + 1)
    n_entries = bisect_right(counts, _OUTLINE * limit, key=lambda n: count(n, 0))
    counts = range(1, len(spans) + 1)
    return write(n_entries, bisect_right(counts, limit, key=lambda n: count(n_entries, n)))


def _list_entries(document: Document) -> list[_Entry]:
    """List headings without those of tables of contents, and repetitions."""
    paths = [(at, document.heading_path(at)) for at in document.heading_starts]
    found = [_Entry(start, len(path) - 1, path[-1]) for start, path in paths]
    for match in [] if found else _HEADING.finditer(document.text):
        depth = len(match["marks"]) - 1 if match["marks"] else match["number"].count(".")
        found.append(_Entry(match.start(), depth, match[0].lstrip("# ")))
    entries: list[_Entry] = []
    for entry in found:
        is_new = not entries or entries[-1].title != entry.title
        if is_new and not _CONTENTS.fullmatch(entry.title):
            entries.append(entry)
    return entries


def _find_title(
    document: Document, entries: list[_Entry], sentences: Sequence[Span]
) -> tuple[str, list[_Entry]]:
    """Find the title, and the entries below it: a first heading that has the whole document or no
    text of its own below it, else the first lines, else the file's name."""
    end = len(document.text)
    first = sentences[0][0] if sentences else end
    tops = [entry.start for entry in entries if entry.depth == 0]
    named = [any(p.match(e.title) for p in (_NUMBERED, _CHAPTER, _LEGAL)) for e in entries[:1]]
    if named == [False] and tops[0] <= first and (len(tops) == 1 or tops[1] <= first):
        stop = (*tops[1:], end)[0]
        below = [e._replace(depth=max(0, e.depth - (e.start < stop))) for e in entries[1:]]
        return entries[0].title, below
    before = document.text[: entries[0].start if entries else end].lstrip()
    lines = [_MARK.sub("", line) for line in before.partition("\n\n")[0].splitlines()]
    if 0 < len(lines) <= 3 and all(map(_is_title, lines)):
        return " – ".join(lines[:2]), entries
    name = PurePath(document.shared or document.name).stem
    return " ".join(re.split(r"[\W_]+", name)).strip() or "none", entries


def _is_title(line: str) -> bool:
    """True if a line may be a title: some words, no sentence, row or notice."""
    words = _WORD.findall(line)
    is_row = CELL.strip() in line or line.count(",") >= max(2, len(words) // 2)
    return 2 <= len(words) <= 14 and not (is_row or line.endswith(_END) or _NOTICE.search(line))


def _find_sentences(document: Document) -> list[Span]:
    """Find sentences of running text: no rows, headings, contents or notices."""
    text, spans = document.text, []
    for start, stop in find_sentences(text):
        sentence = text[start:stop].rstrip(_CLOSING)
        path = document.heading_path(start)
        letters = sum(map(str.isalpha, sentence))
        is_text = sentence.endswith(_END) and letters >= max(15, 0.6 * len(sentence))
        is_extra = CELL in sentence or _NOTICE.search(sentence) or any(map(_LEGAL.match, path))
        if is_text and not is_extra and not any(map(_CONTENTS.fullmatch, path[-1:])):
            spans.append((start, stop))
    return spans


def _rank(document: Document, entries: Sequence[_Entry], sentences: Sequence[Span]) -> list[Span]:
    """Order sentences and lines by what they tell of the whole document."""
    text = document.text
    titles = {entry.title for entry in entries}
    sentences = [span for span in sentences if text[slice(*span)].strip() not in titles]
    lines = list(find_sentences(text))
    if sum(stop - start for start, stop in sentences) < _LEAST_SENTENCES * len(text):
        sentences = [span for span in lines if not _NOTICE.search(text[slice(*span)])]
    early = sentences[:_FIRST_SENTENCES]
    itself = [span for span in early if _ITSELF.match(text, *span)]
    near = (*document.heading_starts[_FIRST_HEADINGS:], len(text))[0]
    above = [(span, document.heading_path(span[0])[-1:]) for span in early if span[0] < near]
    introduction = [span for span, path in above if any(map(_INTRODUCTION.search, path))]
    firsts: list[Span] = []
    for entry in _spread([entry for entry in entries if entry.depth == 0]):
        index = bisect_left(sentences, (entry.start, 0))
        firsts += sentences[index : index + 1]
    telling = [*early[:2], *itself[:3], *introduction[:6], *early[:5], *firsts]
    return list(dict.fromkeys([*telling, *sentences, *lines]))


def _spread(entries: Sequence[_Entry]) -> list[_Entry]:
    """Order entries, the outermost first, so that the first n of a depth are spread evenly."""
    counts: Counter[int] = Counter()
    ranked = []
    for entry in entries:
        ranked.append((entry.depth, f"{counts[entry.depth]:032b}"[::-1], entry))
        counts[entry.depth] += 1
    return [entry for _, _, entry in sorted(ranked)]


def _join(text: str, spans: Sequence[Span]) -> str:
    """Join stretches of a text, paragraphs on their own lines; "…" stands for text left out."""
    joined, last = "", 0
    for start, stop in spans:
        line = " ".join(text[start:stop].split())
        if joined and line:
            gap = text[last:start]
            joined += " … " if _LETTER.search(gap) else "\n" if "\n" in gap else " "
        joined += line if len(line) <= _LONG else line[:_LONG].rpartition(" ")[0] + " …"
        last = start + len(text[start:stop].rstrip())
    return joined


def _write_outline(document: Document, shown: Sequence[_Entry], *, cut: bool) -> str:
    """Write a line for each outermost entry, with its page and the titles below it."""
    lines: list[str] = []
    is_bare = True  # no titles below the last line's
    for entry in sorted(shown):
        if entry.depth and lines:
            lines[-1] += (": " if is_bare else "; ") + entry.title
        else:
            page = document.find_page(entry.start)
            lines.append(f"- {entry.title}" + (f" (p. {page})" if page else ""))
        is_bare = not entry.depth
    label = "Chapters and sections" + (" (some left out):" if cut else ":")
    return "\n".join([label, *lines]) if lines else ""


def _describe_length(document: Document, entries: Sequence[_Entry]) -> str:
    """Describe pages, chapters, sections and words in one line."""
    outermost = [entry for entry in entries if entry.depth == 0]
    n_chapters = sum(bool(_CHAPTER.match(entry.title)) for entry in entries) or len(outermost)
    counts = {
        "page": max((section.page or 0 for section in document.sections), default=0),
        "chapter": n_chapters,
        "section": len(entries) - n_chapters,
    }
    sizes = [f"{n:,} {kind}{'s' * (n > 1)}" for kind, n in counts.items() if n]
    n_words = len(_WORD.findall(document.text))
    return ", ".join([*sizes, f"about {round(n_words, 2 - len(str(n_words))):,} words"])
