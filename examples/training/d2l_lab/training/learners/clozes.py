"""Clozes: questions for a name or a number in a plain sentence.

Text and a source of chance in, a question and its answer out; no model, only a few English word
lists. After the cloze translation of Lewis et al., "Unsupervised Question Answering by
Cloze Translation" (ACL 2019): rough questions about unlimited text teach more than none.
"""

import random
import re
from collections.abc import Iterator

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
)
_DATE = rf"(?:\d{{1,2}} {_MONTH}(?: \d{{4}})?|{_MONTH} \d{{1,2}}(?:, \d{{4}})?|{_MONTH} \d{{4}})"
_NUMBER = r"\$?\d+(?:,\d{3})*(?:\.\d+)?%?(?: (?:million|billion|percent|per cent))?"
_NAME = r"[A-Z][\w'’.-]*\w(?: (?:(?:of|de|von|van|the|and) )?[A-Z][\w'’-]*\w){0,4}"
_SPAN = re.compile(
    rf"(?<![\w.,$-])(?:(?P<date>{_DATE})|(?P<number>{_NUMBER})|(?P<name>{_NAME}))(?!\w)"
)
_YEAR = re.compile(r"1\d{3}|20\d{2}")
_UNITLESS = re.compile(r"[^\w]*$|[,;:.)]")
_OPENERS = """
A After All Although An And As At Because Before Both But By Despite During Each For From
Have He Her His However I If In It Its Many Most No Not On One Or Other She Since So Some Such
That The Their Then There These They This Those Through To Today Two Under Unlike Until We What
When Where Which While Who With You
"""
_STARTERS = frozenset(_OPENERS.split())
_DRAWN = re.compile(r"[^.!?\n]+[.!?]?")
_DRAWN_WHOLE = re.compile(r"[^.!?\n]+(?:[.!?](?=\S)[^.!?\n]*)*[.!?]?")
_SHORTEST, _LONGEST = 6, 45  # words of a sentence that is asked about
_CONTEXT = 12  # words of context on each side of the span
_DROPPED = 0.12  # share of these words left out: a real question repeats the text only in part
_BLANKS = ("Fill in the blank: {}", "What is missing? {}", "What is the missing word? {}")


def list_sentences(text: str, *, keep_points: bool) -> list[str]:
    """List sentences with the white space before them: a full stop or a line's end ends one.

    With `keep_points` the point in "3.5" ends no sentence, so that questions can ask for the
    number; recited words may begin or end there. The exercises of a step depend on the rule, so a
    change alters the rest of an interrupted run.
    """
    return (_DRAWN_WHOLE if keep_points else _DRAWN).findall(text)


def make_cloze(text: str, chance: random.Random) -> tuple[str, str] | None:
    """Make a question and its answer, a span that occurs once in the text; None without any."""
    spans = [
        (sentence, match)
        for sentence in list_sentences(text, keep_points=True)
        if _SHORTEST <= len(sentence.split()) <= _LONGEST
        for match in _find_spans(sentence)
        if text.count(match.group()) == 1
    ]
    if not spans:
        return None
    sentence, match = chance.choice(spans)
    left, right = sentence[: match.start()].split(), sentence[match.end() :].split()
    left = [word for word in left[-_CONTEXT:] if chance.random() >= _DROPPED]
    right = [word for word in right[:_CONTEXT] if chance.random() >= _DROPPED]
    if chance.random() < 0.25:
        asked = " ".join((*left, "___", *right))
        return chance.choice(_BLANKS).format(asked), match.group()
    words = _ask_for(match, right, chance)
    if left and chance.random() < 0.4:  # in front, as in most questions
        asked = " ".join((words, *left, *right))
    else:
        asked = " ".join((*left, words, *right))
    asked = asked.strip(" ,;:.!?")
    return f"{asked[:1].upper()}{asked[1:]}?", match.group()


def _find_spans(sentence: str) -> Iterator[re.Match[str]]:
    """Find names, dates and numbers; a capital at a sentence's beginning alone is no name."""
    for match in _SPAN.finditer(sentence):
        words = match.group().split()
        opens = not sentence[: match.start()].strip()
        if match.lastgroup != "name" or (
            words[0] not in _STARTERS and not (opens and len(words) < 2)
        ):
            yield match


def _ask_for(match: re.Match[str], right: list[str], chance: random.Random) -> str:
    """Choose the question words for a span."""
    if match.lastgroup == "date":
        return chance.choice(("when", "what date"))
    if match.lastgroup == "name":
        return chance.choice(("who", "what", "which", "who or what"))
    if _YEAR.fullmatch(match.group()):
        return chance.choice(("what year", "when", "which year"))
    counts = right and not _UNITLESS.match(right[0]) and not match.group().endswith("%")
    return chance.choice(("how many", "how much")) if counts else "what number"
