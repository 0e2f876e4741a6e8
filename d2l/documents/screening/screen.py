"""Screen a parsed document: add findings that its user should know, and remove Unicode tags."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace

from d2l.documents.document import SEPARATOR
from d2l.documents.screening.characters import find_unseen, remove_tags, spell_plainly
from d2l.documents.screening.instructions import find_instructions
from d2l.documents.screening.secrets import find_secrets
from d2l.readers.findings import Finding, Kind, gather
from d2l.readers.parsing import Heading, Parsed, ParseRequest, Section


def screen(parsed: Parsed, request: ParseRequest) -> Parsed:
    """Screen a parsed document; tags stay only if the request includes hidden text."""
    findings = list(map(_hide_secrets, parsed.findings))
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
    remarks = (  # without their quotes
        text.partition(': "')[0] if any(find_secrets(text)) else text for text in parsed.remarks
    )
    return parsed._replace(
        sections=tuple(sections), findings=gather(findings), remarks=tuple(remarks)
    )


def _hide_secrets(finding: Finding) -> Finding:
    """Replace the words of a finding that are like a secret."""
    quotes = finding.kind in ("dropped", "furniture") and any(find_secrets(finding.what))
    return replace(finding, what="words like a secret") if quotes else finding


def move_headings(section: Section) -> Iterator[Heading]:
    """Yield a section's headings at their positions in the text without tags."""
    last, at = 0, 0
    for start, level, title in section.headings:
        at += len(remove_tags(section.text[last:start])[0])
        last = start
        yield Heading(at, level, remove_tags(title)[0])


def screen_section(section: Section, first: int) -> Iterator[Finding]:
    """Yield the findings of a section that begins in line `first` of the document."""
    text, plain = section.text, spell_plainly(section.text)
    ends, plain_ends = (
        [match.start() for match in re.finditer("\n", read)] for read in (text, plain)
    )
    for sort, n_chars, at in find_unseen(text):
        yield _make_finding(section, first + bisect_left(ends, at), "characters", sort, n_chars)
    for sort, at in find_instructions(plain):
        yield _make_finding(section, first + bisect_left(plain_ends, at), "instruction", sort)
    for sort, at in find_secrets(plain):
        yield _make_finding(section, first + bisect_left(plain_ends, at), "secret", sort)


def _make_finding(section: Section, line: int, kind: Kind, what: str, count: int = 1) -> Finding:
    """Make a finding on the section's page, or else on a line."""
    if section.page is not None:
        return Finding(kind, what, count, pages=(section.page,))
    return Finding(kind, what, count, lines=(line,))
