"""A parsed document looked over before it is compiled: what its user should know of its text.

Takes what a parser found, gives the same with findings, and without Unicode tags.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator

from d2l.documents.document import SEPARATOR
from d2l.documents.screening.characters import find_unseen, spell_plainly, take_out_tags
from d2l.documents.screening.instructions import find_instructions
from d2l.documents.screening.secrets import find_secrets
from d2l.readers.findings import Finding, Kind, gather
from d2l.readers.parsing import Heading, Parsed, ParseRequest, Section


def screen(parsed: Parsed, request: ParseRequest) -> Parsed:
    """Look over a parsed document; tags are taken out unless hidden text is wanted, too."""
    findings = list(parsed.findings)
    sections: list[Section] = []
    line = 1
    for section in parsed.sections:
        text, n_tags = take_out_tags(section.text)
        if n_tags:
            findings.append(_place(section, line, "hidden", "Unicode tags", n_tags))
            if not request.include_hidden:
                section = section._replace(text=text, headings=tuple(move_headings(section)))
        findings += look_over(section, line)
        sections.append(section)
        line += section.text.count("\n") + SEPARATOR.count("\n")
    return parsed._replace(sections=tuple(sections), findings=gather(findings))


def move_headings(section: Section) -> Iterator[Heading]:
    """Yield a section's headings as they stand in its text without tags."""
    last, at = 0, 0
    for start, level, title in section.headings:
        at += len(take_out_tags(section.text[last:start])[0])
        last = start
        yield Heading(at, level, take_out_tags(title)[0])


def look_over(section: Section, first: int) -> Iterator[Finding]:
    """Yield what is found in a section that begins on a line of the document."""
    text, plain = section.text, spell_plainly(section.text)
    ends, plain_ends = (
        [match.start() for match in re.finditer("\n", read)] for read in (text, plain)
    )
    for what, n_chars, at in find_unseen(text):
        yield _place(section, first + bisect_left(ends, at), "characters", what, n_chars)
    for what, at in find_instructions(plain):
        yield _place(section, first + bisect_left(plain_ends, at), "instruction", what)
    for what, at in find_secrets(plain):
        yield _place(section, first + bisect_left(plain_ends, at), "secret", what)


def _place(section: Section, line: int, kind: Kind, what: str, count: int = 1) -> Finding:
    """A finding on the section's page, or else on a line."""
    if section.page is not None:
        return Finding(kind, what, count, pages=(section.page,))
    return Finding(kind, what, count, lines=(line,))
