"""A full answer, sentence by sentence: what no part says is left out.

Text in, text out; needs no model and no torch.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from d2l.adapters.parts import PartRecord
from d2l.answer.events import Event, TextPiece
from d2l.parts.router import WORD, find_stop_words, is_like, split_content

#: Stands where sentences were left out.
GAP: Final = "[…]"
#: Least share of a sentence's own words that the parts have; higher: more is left out.
#: Chosen on the long answers to three manuals; d2l/hypernets/README.md has the figures.
_LEAST_SAID = 0.7
#: Behind a sentence: white space and no small letter, or the end of a line.
_END = re.compile(r"(?<=[.!?])[\"'”’)\]*]*\s+(?=[^a-z\s])|(?<=[。！？])|\n+")
_BARE = re.compile(r"[\W\d_]*")  # a mark of an item, or the fence of code
_MARK = re.compile(r"(\s*)(?:[-*•]|(\d+)[.)])\s+")
_QUOTED = re.compile(r"`([^`\n]+)`|[\"“]([^\"”\n]+)[\"”]|(?<!\w)['‘]([^'’\n]+)['’](?!\w)")
#: Names in code: with a low line, two capitals or a capital within, or behind two hyphens.
_CODE = re.compile(r"(?:--)?\w*(?:_|[A-Z]{2}|[a-z][A-Z])\w*|--\w[\w-]*")


class Said:
    """Words of the parts that an answer is read off, and of its question."""

    def __init__(self, question: str, parts: Sequence[PartRecord]) -> None:
        text = "\n".join(part.searched for part in parts)
        self._given = {*WORD.findall(question.casefold())}
        self._words = {*WORD.findall(text.casefold())}
        self._text = _flatten(f"{text} {question}")
        language, own = find_stop_words(text), find_stop_words(question)
        n_same, n_own = (sum(word in stops for word in self._given) for stops in (language, own))
        self._is_foreign = n_same < n_own

    def has(self, sentence: str) -> bool:
        """True if the parts say a sentence: they have its quotations, its names in code, its
        numbers, and most of its words. Sentences in another language cannot be held to that."""
        if self._is_foreign:
            return True
        quoted = ["".join(groups) for groups in _QUOTED.findall(sentence)]
        if not all(_flatten(one) in self._text for one in (*quoted, *_CODE.findall(sentence))):
            return False
        own = self.find_own(sentence)
        missing = [word for word in own if not self._has_word(word)]
        has_numbers = not any(word[0].isdigit() for word in missing)
        return has_numbers and len(missing) <= (1 - _LEAST_SAID) * len(own)

    def find_own(self, sentence: str) -> list[str]:
        """Find the words of a sentence that its question does not have, without stop words."""
        words = split_content(sentence, find_stop_words(sentence))
        return [word for word in words if word not in self._given]

    def _has_word(self, word: str) -> bool:
        return word in self._words or any(is_like(word, other) for other in self._words)


def leave_out(events: Iterator[Event], is_said: Callable[[str], bool]) -> Iterator[Event]:
    """Hold pieces to the end of their sentence, and leave out the sentences that are not said. An
    item goes with its first sentence, and the others are counted anew. A line that ends with a
    colon says nothing yet, and waits for what follows."""
    text, logprobs, waiting = "", tuple[dict[str, Any], ...](), ""
    is_open, is_gone, n_gone = False, False, 0
    for event in events:
        if isinstance(event, TextPiece):
            text, logprobs = text + event.text, logprobs + event.logprobs
        *sentences, text = _cut(text, is_last=not isinstance(event, TextPiece))
        for sentence in sentences:
            mark, body = _MARK.match(sentence), sentence.rstrip()
            if mark:
                n_gone = 0 if mark[2] == "1" else n_gone
                body, is_gone = body[mark.end() :], False
            if is_gone or not (body.endswith(":") or is_said(body)):
                is_gone = is_gone or mark is not None
                n_gone += mark is not None
                waiting = waiting.rstrip().removesuffix(GAP) + GAP + _find_space(sentence)
            else:
                if mark and mark[2]:
                    sentence = f"{mark[1]}{int(mark[2]) - n_gone}{sentence[mark.end(2) :]}"
                waiting += sentence
                if not body.endswith(":"):
                    yield TextPiece(waiting, logprobs)
                    waiting, logprobs, is_open = "", (), True
            is_gone = is_gone and "\n" not in _find_space(sentence)
        if not isinstance(event, TextPiece):
            if is_open and GAP in waiting:
                yield TextPiece(GAP, logprobs)
            yield event


def _find_space(sentence: str) -> str:
    """Find the white space behind a sentence."""
    return sentence[len(sentence.rstrip()) :]


def _cut(text: str, *, is_last: bool) -> list[str]:
    """Cut a text behind its sentences, the marks of items before theirs; the rest comes last."""
    cuts, start = list[str](), 0
    for end in _END.finditer(text):
        if not _BARE.fullmatch(text, start, end.start()):
            cuts.append(text[start : end.end()])
            start = end.end()
    rest = text[start:]
    return [*cuts, *([rest, ""] if is_last and rest else [rest])]


def _flatten(text: str) -> str:
    """Fold the case of a text, and make its white space and quotation marks one."""
    return " ".join(re.sub("[\"'`“”‘’ʺ]", "", text).casefold().split())
