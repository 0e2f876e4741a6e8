"""Question → its scope: the document as a whole, the parts below a heading, or any part.

Words of the question decide; needs no model and no torch.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from d2l.adapters.parts import PartRecord
from d2l.parts.kept import Question
from d2l.parts.router import find_stop_words, is_like
from d2l.words import join

_WORD = re.compile(r"\w+")
_DOCUMENT = re.compile(rf"(?:{join('document')})(?:e?s)?")
_WHOLE = re.compile(join("whole"))
_FILLER = re.compile(join("filler") + r"|\d")
_ABOUT = re.compile(join("about"), re.IGNORECASE)
#: A chapter by its number, and by its title.
_NAMES = join("chapter", "section", "division")
_NUMBER = r"(?P<number>\d{1,4}(?:\.\d{1,4}){0,7}|[a-h]|[ivx]{1,6})"
_NUMBERED = re.compile(rf"(?:\b(?P<name>{_NAMES})|§) ?{_NUMBER}(?!\.?\.?\w)", re.IGNORECASE)
_TITLED = re.compile(
    rf"\b(?:{_NAMES})s? (?:{join('titled')})\b|\b(?:{join('chapter', 'section')})\b", re.IGNORECASE
)
_HEADING = re.compile(rf"(?:(?P<name>{_NAMES}) |§ ?)?{_NUMBER}(?=[.:) ]|$)", re.IGNORECASE)
_GOES_ON = re.compile(rf"\W*(?:{join('goes_on')})\b", re.IGNORECASE)
_POINTS_BACK, _POSSESSIVE, _EXPLETIVE, _DEFINES = (
    re.compile(rf"\b(?:{join(name)})\b", re.IGNORECASE)
    for name in ("points_back", "possessive", "expletive", "defines")
)
GREETS = re.compile(rf"\W*(?:{join('greets')})(?:[\W_]+\w+){{0,3}}\W*", re.IGNORECASE)
#: Most words of content in a question that points back.
_FEW = 2
_EXCHANGE = 3  # turns: a question, its answer, and the next question
_LINE = re.compile(r"^[^\n|]{3,100}(?<![.!?:;,])$", re.MULTILINE)


@dataclass(frozen=True)
class Scope:
    """Scope of a question: all of the document, the parts below a heading, in their order, or a
    fact anywhere."""

    kind: Literal["whole", "below", "fact"]
    indices: tuple[int, ...] = ()


def find_scope(question: str, records: Sequence[PartRecord], *, title: str = "") -> Scope:
    """Find the scope of a question to these parts, without the part that is an overview.

    `title` is the document's: "What is RTKLIB for?" asks about a whole whose title names RTKLIB.
    """
    below = _find_numbered(question, records)
    stops = find_stop_words(question)
    split = _split(question, frozenset())  # "pages" is a stop word
    is_whole = any(map(_WHOLE.fullmatch, split))
    asking = is_whole or _ABOUT.search(question) is not None
    words = {word for word in split if not _DOCUMENT.fullmatch(word)}
    content = {w for w in words - stops if not (_WHOLE.fullmatch(w) or _FILLER.fullmatch(w))}
    names = {PurePath(record.document).stem for record in records}
    known = {word for name in (title, *names) for word in _split(name, stops)}
    new = content - known
    titled = _TITLED.search(question) is not None
    if not below and (titled or asking):
        needed = set() if titled else new
        if is_whole and not titled:  # "the main chapters" are not those below "Main"
            known |= {word for word in words if _FILLER.fullmatch(word)}
        below = _find_below(records, lambda path: _weigh(path, words, needed, known, stops))
    if asking and not below and not new:
        return Scope("whole")
    return Scope("below" if below else "fact", tuple(below))


def find_named(question: str, records: Sequence[PartRecord]) -> tuple[int, ...]:
    """Find the parts that a question names: the overview, if it asks about a document as a whole,
    or the parts of a chapter; empty if it asks for a fact, or there is no overview."""
    wholes = [n for n, record in enumerate(records) if record.is_overview]
    if not wholes:
        return ()
    plain = [n for n, record in enumerate(records) if not record.is_overview]
    title = records[wholes[0]].text.partition("\n")[0].removeprefix("Title: ")
    scope = find_scope(question, [records[n] for n in plain], title=title)
    return tuple(wholes) if scope.kind == "whole" else tuple(plain[n] for n in scope.indices)


def read_question(turns: Sequence[Mapping[str, str]]) -> Question:
    """Read the last question, with the turns before it that it needs."""
    text = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), "")
    earlier = ""
    if len(turns) > 1 and not stands_alone(text):
        earlier = "\n".join(turn["content"] for turn in turns[-3:-1] if turn["role"] != "system")
    return Question(text, earlier, join_questions(turns))


def stands_alone(question: str) -> bool:
    """True if a question needs no turn before it. "And how often?" needs one, and so does a
    question with few words of content and a pronoun ("it"). A greeting needs none."""
    if GREETS.fullmatch(question):
        return True
    n_own = len(set(_split(question, find_stop_words(question))))
    if _GOES_ON.match(question) or not n_own:
        return False
    if _POINTS_BACK.search(_EXPLETIVE.sub("", question)):
        return n_own > _FEW
    defines = _DEFINES.search(question) is not None and not _POSSESSIVE.search(question)
    return n_own > 1 or defines


def list_needed(turns: Sequence[Mapping[str, str]]) -> list[int]:
    """List the indices of the turns that the last answer needs: the system text, the last turn, and
    the question and answer before it, unless the last turn stands alone."""
    if not turns or turns[-1]["role"] != "user":
        return list(range(len(turns)))
    n_last = 1 if stands_alone(turns[-1]["content"]) else _EXCHANGE
    first = max(len(turns) - n_last, 0)
    return [n for n, turn in enumerate(turns) if n >= first or turn["role"] == "system"]


def join_questions(turns: Sequence[Mapping[str, str]]) -> str:
    """Join the last question and the question before it, if that is needed."""
    needed = (turns[n] for n in list_needed(turns))
    return "\n".join(turn["content"] for turn in needed if turn["role"] == "user")


def _split(text: str, stops: frozenset[str]) -> list[str]:
    """Split a text into its words but stop words and single letters, in lower case."""
    words = _WORD.findall(text.casefold().replace("_", " "))
    return [word for word in words if word not in stops and (len(word) > 1 or word.isdigit())]


def _find_numbered(question: str, records: Sequence[PartRecord]) -> list[int]:
    """Find the parts of a chapter that a question names by its number."""
    asked = _NUMBERED.search(question.casefold())
    if asked is None:
        return []

    def weigh(path: tuple[str, ...]) -> float:
        match = _HEADING.match(path[-1].casefold())
        if match is None or match["number"] != asked["number"]:
            return 0
        return int(None in (match["name"], asked["name"]) or match["name"] == asked["name"])

    return _find_below(records, weigh)


def _weigh(
    path: tuple[str, ...], words: set[str], needed: set[str], known: set[str], stops: frozenset[str]
) -> float:
    """Count a heading's words, without stop words and words of the document's title. 0 unless the
    question has all of them, and the headings above have all `needed` words."""
    own = _split(_HEADING.sub("", path[-1], count=1), frozenset())
    own = [word for word in own if not word.isdigit()]
    telling = [word for word in own if word not in stops] or (own if len(own) > 1 else [])
    above = _split(" ".join(path), frozenset())
    is_named = all(any(is_like(word, other) for other in words) for word in telling)
    is_whole = all(any(is_like(word, other) for other in above) for word in needed)
    return sum(word not in known for word in telling) if is_named and is_whole else 0


def _find_below(
    records: Sequence[PartRecord], weigh: Callable[[tuple[str, ...]], float]
) -> list[int]:
    """Find the parts below the heading of the highest weight, if any is above 0; else the parts
    with such a line: a heading inside a part stands only in its text."""
    paths = [r.headings[:n] for r in records for n in range(1, len(r.headings) + 1)]
    best = max(dict.fromkeys(paths), key=weigh, default=())
    if best and weigh(best):
        below = [n for n, record in enumerate(records) if record.headings[: len(best)] == best]
        before = max(0, below[0] - 1)  # the heading may stand at its end
        is_cut = best[-1] in records[before].text.splitlines()
        return sorted({before, *below}) if is_cut else below
    lines = [(weigh((line,)), n) for n, r in enumerate(records) for line in _LINE.findall(r.text)]
    most = max((weight for weight, _ in lines), default=0)
    return sorted({n for weight, n in lines if weight == most > 0})
