"""Answers in full → marks: the share of the required facts, refusals, invented phrases.

A phrase counts from the start of a word; short words and numbers count as whole words. Case,
quotes, dashes and commas do not matter: 1,500 is 1500.
"""

import re
from typing import NamedTuple

from d2l.evaluation.metrics import write_plainly
from d2l_lab.questions import Question

#: Facts of a longer answer count half, where steps or an overview are wanted.
_MOST_WORDS = 250
_CONCISE = ("howto", "overview")
_SHORT_WORD = 3

_NOT = r"(?:(?:does|do|did) not|doesnt|dont|didnt|never)"
_CANNOT = r"(?:cannot|(?:can|could|did|do) not|cant|couldnt|unable to|didnt|dont)"
_TEXT = (
    r"(?:documents?|documentation|manual|guide|handbook|text|book|section|chapter|passage|source"
    r"|excerpt|rules|page)"
)
_TELL = (
    r"(?:say|state|mention|describe|cover|explain|specify|contain|include|give|provide|tell|answer"
    r"|address|discuss|go into|deal)"
)
_TOLD = r"(?:mentioned|stated|described|covered|explained|specified|documented|answered)"
_REFUSAL = re.compile(
    rf"\b{_TEXT} (?:\w+ ){{0,4}}?{_NOT} (?:\w+ ){{0,2}}?{_TELL}"
    rf"|\b(?:not (?:\w+ly )?|isnt |arent ){_TOLD}\b"
    r"|\bnot (?:\w+ly )?(?:addressed|discussed)\b"
    r"|\bnot (?:given|provided|found|included|contained) (?:in|by|here)\b"
    r"|\bno (?:\w+ )?(?:information|mention|instructions|details|answer|explanation)\b"
    rf"|\b{_CANNOT} (?:find|answer|tell|see|locate|know)\b"
    r"|\b(?:says?|tells?|contains?|gives?|has|have|find|is) nothing (?:about|on)\b"
)


class FactMarks(NamedTuple):
    """Marks of an answer: the share of the facts, halved if it is too long; the answer refuses; it
    has a phrase that shows an invention."""

    share: float
    refused: bool
    wrong: bool


def mark_facts(answer: str, question: Question) -> FactMarks:
    """Mark an answer by the facts of a question that is not short.

    A refusal with an invention is none, if the document has no answer.
    """
    said = _simplify(answer)
    stated = [any(_has(said, phrase) for phrase in fact) for fact in question.facts]
    too_long = question.kind in _CONCISE and len(answer.split()) > _MOST_WORDS
    share = sum(stated) / max(len(stated), 1) * (0.5 if too_long else 1)
    wrong = any(_has(said, phrase) for phrase in question.wrong)
    refused = _REFUSAL.search(said) is not None and not (wrong and not stated)
    return FactMarks(share, refused, wrong)


def _simplify(text: str) -> str:
    """Keep words, numbers and the signs of keys, files and units, in lower case."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", write_plainly(text).lower())
    text = re.sub(r"[^\w%.+<>/\\#&@:~]+", " ", re.sub(r"[\"'`*]", "", text))
    return " ".join(re.sub(r"(?<![.:])[.:]+(?= |$)", "", text).split())


def _has(said: str, phrase: str) -> bool:
    """True if a simplified answer has a phrase; a plural of a short word is the same word."""
    wanted = _simplify(phrase)
    start = r"(?<!\w)(?<!\d\.)" if wanted[:1].isalnum() else ""
    end = ""
    if wanted[-1:].isdigit():
        end = r"(?!\d|[.:]\d)"
    elif len(wanted.split(" ")[-1]) <= _SHORT_WORD:
        end = r"(?:s|es)?(?!\w)"
    return bool(wanted) and re.search(start + re.escape(wanted) + end, said) is not None
