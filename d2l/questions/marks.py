"""Text → the answers to ask for: names, dates, numbers, things, steps, conditions, table cells.

Rules for English find them; no model is needed. They are candidates: the writer asks for each, and
a question counts only if a reader of the text answers it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["date", "number", "name", "quotation", "thing", "step", "condition", "cell"]

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
)
_DATE = re.compile(
    rf"\b(?:\d{{1,2}} {_MONTH}(?: \d{{4}})?|{_MONTH} \d{{1,2}}(?:, \d{{4}})?|{_MONTH} \d{{4}}"
    r"|(?:1[0-9]|20)\d\d-\d\d-\d\d|(?:1[0-9]|20)\d\d)\b(?![\d,.%]\d)"
)
_UNIT = (
    r"(?:percent|per cent|million|billion|thousand|hundred|degrees?|[°€%]\s?[CF]?|[cmk]m"
    r"|[kKmMGT]?(?:B|Hz|W|V|A|g|l|L|m|bar|Pa|Wh)|days?|hours?|minutes?|seconds?|weeks?|months?"
    r"|years?|times|people|miles?|(?:kilo)?met(?:er|re)s?|lit(?:er|re)s?|inches|feet|kilograms?)"
)
_DIGITS = r"\d+(?:[,.:]\d+)*"
_NUMBER = re.compile(  # or two of them: "5–8 bar"
    rf"(?<![\w.,$€£–-])(?!\d+[.)]\s)[$€£]?{_DIGITS}(?:[–-]{_DIGITS})?(?:\s?{_UNIT}(?![\w]))*"
    r"(?![\w])"
)
_COUNT = (
    r"(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty"
    r"|fifty|sixty|seventy|eighty|ninety|hundred|thousand|half|twice|dozen)"
)
_COUNTED = re.compile(  # "twenty-one days"; "one" alone is rarely a number
    rf"(?<![\w-])(?i:{_COUNT}(?:-(?:one|{_COUNT}))?)(?:\s{_UNIT}(?![\w]))*(?![\w-])"
)
_NAME = re.compile(
    r"(?<!\w)[A-Z][\w'’-]*\w(?: (?:(?:of|de|von|van|the|and|for) )?[A-Z][\w'’-]*\w){0,4}"
)
_QUOTED = re.compile(r"(?<!\w)[\"“`]([^\"“”`\n]{2,60})[\"”`](?!\w)")
_THING = re.compile(  # a look-ahead, since "the filter of the pump" holds two things
    r"\b(?:the|a|an|its|their|his|her|every|each|two|three|four|five)\s+"
    r"(?=((?:[a-z][\w-]*\s+){0,3}[a-z][\w-]*))",
    re.IGNORECASE,
)
_STEP = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+([A-Z][^.\n:;]{8,90})", re.MULTILINE)
_CONDITION = re.compile(
    r"\b(?:if|when|unless|before|after|while|because|until|in order to|so that)\s+"
    r"([a-z][^,.;:\n]{8,80})", re.IGNORECASE
)  # fmt: skip
_CELL = re.compile(
    r"(?:^|\|)[ \t]*[^|:\n]{2,40}(?::[ \t]+|\|[ \t]*)([^|\n]{1,60}?)[ \t]*(?=\||$)", re.MULTILINE
)
_COMMON_WORDS = """
a after all also although an and another any are as at because before both but by can despite do
does during each every few first for from had has have he her here his how however i if in is it
its later many more most much my no not now of on one only or other our she since so some such that
the their then there these they this those through thus to today two under unlike until we what when
where which while who why will with you your
"""
#: Words that open sentences: their capital makes no name.
_OPENERS = frozenset(_COMMON_WORDS.split())
_VERBS = """
was were be been being would could should may might must shall than into onto over out up down about
between within without against per via made used called known named came went
"""
#: Words that end a thing.
_STOPS = _OPENERS | frozenset(_VERBS.split())
_MOST_WORDS = 12
#: Answers asked for in a passage, so that time is left for all passages of a long document.
_MOST_ASKED = 24


@dataclass(frozen=True)
class Span:
    """Characters [start, stop) of a text that hold an answer, and the rule that found it."""

    start: int
    stop: int
    kind: Kind | None = None

    def of(self, text: str) -> str:
        """Return the answer's own words."""
        return text[self.start : self.stop]


@dataclass(frozen=True)
class AboutText:
    """A question about a document, by its number, with its answer at characters [start, stop)."""

    document: int
    start: int
    stop: int
    question: str
    answer: str


def find_answers(text: str) -> list[Span]:
    """List candidates in text order. None overlap: the first of `_RULES` wins.

    Words that the text repeats are left out, since a question could not tell them apart.
    """
    spans: list[Span] = []
    for kind, rule in _RULES:
        for start, stop in rule(text):
            words = text[start:stop]
            inside = any(start < other.stop and other.start < stop for other in spans)
            if inside or not 0 < len(words.split()) <= _MOST_WORDS or _is_repeated(words, text):
                continue
            spans.append(Span(start, stop, kind))
    return sorted(spans, key=lambda span: span.start)


def choose_answers(answers: Sequence[Span]) -> list[Span]:
    """Choose at most `_MOST_ASKED` answers, evenly spread, in order. Things are taken last: rules
    without parts of speech get them wrong most often, so fewer of them pass the round trip."""
    sure = [span for span in answers if span.kind != "thing"]
    things = [span for span in answers if span.kind == "thing"]
    taken = _thin(sure, _MOST_ASKED)
    taken += _thin(things, _MOST_ASKED - len(taken))
    return sorted(taken, key=lambda span: span.start)


def _thin(answers: Sequence[Span], most: int) -> list[Span]:
    n = min(len(answers), most)
    return [answers[index * len(answers) // n] for index in range(n)]


def _is_repeated(words: str, text: str) -> bool:
    """True if the text has whole words more than once, in any case."""
    pattern = rf"(?<!\w){re.escape(words)}(?!\w)"
    return sum(1 for _ in re.finditer(pattern, text, re.IGNORECASE)) != 1


def _match(pattern: re.Pattern[str]) -> Callable[[str], Iterator[tuple[int, int]]]:
    """Make a rule that finds a pattern's group, or its whole match if it has no group."""

    def find(text: str) -> Iterator[tuple[int, int]]:
        for match in pattern.finditer(text):
            yield _strip(text, *match.span(pattern.groups))

    return find


def _strip(text: str, start: int, stop: int) -> tuple[int, int]:
    """Move the characters [start, stop) past white space and commas at the ends."""
    words = text[start:stop]
    return start + len(words) - len(words.lstrip()), stop - len(words) + len(words.rstrip(" \t,"))


def _find_names(text: str) -> Iterator[tuple[int, int]]:
    """Find capitalized words; a single word that begins a sentence is no name."""
    for match in _NAME.finditer(text):
        start, words = match.start(), match.group().split()
        if words[0].lower() in _OPENERS:
            start += len(words[0]) + 1
            words = words[1:]
        opens = re.search(r"(?:^|[.!?:\n]\s*|^\s*[-*•\d.)]+\s+)$", text[: match.start()])
        if words and words[0][:1].isupper() and not (opens and len(words) < 2):
            yield start, match.end()


def _find_things(text: str) -> Iterator[tuple[int, int]]:
    """Find the words behind an article, up to the word that ends the noun phrase."""
    for match in _THING.finditer(text):
        start = stop = match.start(1)
        for word in re.finditer(r"\S+", match.group(1)):
            if word.group().lower() in _STOPS or word.group().endswith(("ly", "ing", "ed")):
                break
            stop = match.start(1) + word.end()
        if stop - start >= 4:
            yield start, stop


def _find_cells(text: str) -> Iterator[tuple[int, int]]:
    """Find the values of "key: value" lines, and the cells of a table row after the first."""
    for match in _CELL.finditer(text):
        if not set(match.group(1)) <= set("-: "):
            yield _strip(text, *match.span(1))


#: Earlier rules win where two find the same words.
_RULES: tuple[tuple[Kind, Callable[[str], Iterator[tuple[int, int]]]], ...] = (
    ("cell", _find_cells),
    ("step", _match(_STEP)),
    ("date", _match(_DATE)),
    ("number", _match(_NUMBER)),
    ("number", _match(_COUNTED)),
    ("quotation", _match(_QUOTED)),
    ("name", _find_names),
    ("condition", _match(_CONDITION)),
    ("thing", _find_things),
)
