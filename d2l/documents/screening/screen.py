"""Screen a parsed document: find invisible characters, and remove Unicode tags."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from d2l.documents.document import SEPARATOR
from d2l.documents.screening.characters import find_unseen, remove_tags
from d2l.readers.findings import Finding, Kind, gather
from d2l.readers.parsing import Heading, Parsed, ParseRequest, Section


def screen(parsed: Parsed, request: ParseRequest) -> Parsed:
    """Screen a parsed document; tags stay only if the request includes hidden text."""
    findings = list(parsed.findings)
    sections: list[Section] = []
    line = 1
    for section in parsed.sections:
        text, n_tags = remove_tags(section.text)
        if n_tags:
            findings.append(_make_finding(section, line, "hidden", "Unicode tags", n_tags))
            if not request.include_hidden:
                section = section._replace(text=text, headings=tuple(move_headings(section)))
        findings += screen_section(section, line)
        sections.append(section)
        line += section.text.count("\n") + SEPARATOR.count("\n")
    return parsed._replace(sections=tuple(sections), findings=gather(findings))


def move_headings(section: Section) -> Iterator[Heading]:
    """Yield a section's headings at their positions in the text without tags."""
    last, at = 0, 0
    for start, level, title in section.headings:
        at += len(remove_tags(section.text[last:start])[0])
        last = start
        yield Heading(at, level, remove_tags(title)[0])


def screen_section(section: Section, first: int) -> Iterator[Finding]:
    """Yield the findings of a section that begins in line `first` of the document."""
    ends = list(accumulate(len(line) + 1 for line in section.text.split("\n")))
    for sort, n_chars, at in find_unseen(section.text):
        yield _make_finding(section, first + bisect_left(ends, at + 1), "characters", sort, n_chars)


def _make_finding(section: Section, line: int, kind: Kind, what: str, count: int) -> Finding:
    """Make a finding on the section's page, or else on a line."""
    if section.page is not None:
        return Finding(kind, what, count, pages=(section.page,))
    return Finding(kind, what, count, lines=(line,))
