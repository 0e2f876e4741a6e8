"""A full answer, sentence by sentence: what no part says is left out.

Text in, text out; needs no model and no torch.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from d2l.adapters.parts import PartRecord
from d2l.answer.events import Ending, Event, TextPiece
from d2l.parts.router import WORD, find_stop_words, is_like, split_content

#: Stands where sentences were left out.
GAP: Final = "[…]"
#: Least share of a sentence's own words that the parts have; higher: more is left out.
#: Chosen on the long answers to three manuals; d2l/hypernets/README.md has the figures.
_LEAST_SAID = 0.7
#: Behind a sentence: white space and no small letter, or the end of a line. Or a block of code, up
#: to the text behind its closing fence; to the end of the text if there is none.
_END = re.compile(
    r"(?<=[.!?])[\"'”’)\]*]*\s+(?=[^a-z\s])|(?<=[。！？])\s*(?=\S)|\n\s*(?=\S)|(?<![^\s。！？])(`{3,})"
    r"[^`\n]*(?:(?=\n)(?s:.*?)\n[ \t]*\1`*[ \t]*\n\s*(?=\S)|(?s:\n.*)?\Z)"
)
_FENCE = re.compile(r"[^\w`]*(`{3,})[^`\n]*$", re.M)
_COMMENT = re.compile(r"(?:#|//|--|;)\s")
_BARE = re.compile(r"[\W\d_]*")  # a mark of an item
_MARK = re.compile(r"(\s*)(?:[-*•]|(\d+)[.)])\s+")
_INTRO = re.compile(rf"^(?!\n){_MARK.pattern}.*:\s*\Z", re.M)  # an item that says nothing yet
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
    """Hold pieces to the end of their sentence, and leave out the sentences and the lines of code
    that are not said. An item goes with its first sentence or block of code, and the others are
    counted anew. A line that ends with a colon says nothing yet, and waits for what follows."""
    text, logprobs, waiting, space = "", tuple[dict[str, Any], ...](), "", ""
    is_open, is_gone, n_gone = False, False, 0
    for event in events:
        if isinstance(event, TextPiece):
            text, logprobs = text + event.text, logprobs + event.logprobs
        is_cut = isinstance(event, Ending) and event.reason != "stop"
        *sentences, text = _cut(text, is_last=not isinstance(event, TextPiece))
        for sentence in sentences:
            mark = _MARK.match(sentence)
            head = mark[0] if mark else ""
            body = sentence[len(head) :].rstrip()
            fence = _FENCE.match(body)
            # Blocks of code, and lines that are indented, belong to the item before them.
            is_gone = is_gone and not mark and (bool(fence) or not space.endswith("\n"))
            space = sentence[len(sentence.rstrip()) :]
            if mark and mark[2]:
                n_gone = 0 if mark[2] == "1" else n_gone
                head = head.replace(mark[2], str(int(mark[2]) - n_gone))
            if fence:
                body = _keep_code(fence, is_said, is_cut=is_cut)
            if is_gone or not (body.endswith(":") or (body if fence else is_said(body))):
                if item := mark or _INTRO.search(waiting):
                    waiting = waiting if mark else waiting[: item.start()]
                    is_gone, n_gone = True, n_gone + bool(item[2])
                waiting = re.sub(rf"{re.escape(GAP)}\s*\Z", "", waiting) + GAP + space
            else:
                waiting += head + body + space
                if not body.endswith(":"):
                    yield TextPiece(waiting, logprobs)
                    waiting, logprobs, is_open = "", (), True
        if not isinstance(event, TextPiece):
            if is_open and GAP in waiting:
                yield TextPiece(GAP, logprobs)
            yield event


def _keep_code(fence: re.Match[str], is_said: Callable[[str], bool], *, is_cut: bool) -> str:
    """Keep the lines of a block of code that are said, and close it; "" if none is. Comments go
    with the line behind them, lines without a word stay. A line that was cut is no command."""
    code, _, last = fence.string[fence.end() :].rpartition("\n")
    is_closed = fence[1] in last and not last.strip("` \t")
    lines = re.split(r"(?<!\\)\n", code if is_closed or is_cut else f"{code}\n{last}")[1:]
    kept, is_kept = "", False
    for line in reversed(lines):
        asked = re.sub(r"`|\\\n", "", line).strip()
        if has_word := re.search(r"\w", asked):
            is_note = _COMMENT.match(asked)
            is_kept = (is_kept and is_said(asked)) if is_note else is_said(f"`{asked}`")
        kept = f"{line}\n{kept}" if is_kept or not has_word else kept
    if not re.search(r"\w", kept):
        return ""
    if not is_closed:
        last = lines[0].removesuffix(lines[0].lstrip()) + fence[1]
    return "\n".join((fence.string[: fence.end()], kept.strip("\n"), last))


def _cut(text: str, *, is_last: bool) -> list[str]:
    """Cut a text behind its sentences and blocks of code, the marks of items before theirs; the
    rest comes last."""
    cuts, start = list[str](), 0
    for end in _END.finditer(text):
        if end[1] and end.end() == len(text) and not is_last:
            break  # the block may go on
        if not _BARE.fullmatch(text, start, end.start()):
            at = end.start() if end[1] else end.end()
            cuts, start = [*cuts, text[start:at]], at
        if end[1]:
            cuts, start = [*cuts, text[start : end.end()]], end.end()
    rest = text[start:]
    return [*cuts, *([rest, ""] if is_last and rest else [rest])]


def _flatten(text: str) -> str:
    """Fold the case of a text, join its continued lines, make white space and quotations one."""
    return " ".join(re.sub("[\"'`“”‘’ʺ]|\\\\\n", "", text).casefold().split())
