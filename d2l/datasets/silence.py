"""Refusals: the sentence that networks learn, and the sentences by which other models refuse."""

import re

from d2l.words import join

#: The answer that networks are trained to give where the document has none; d2l says it, too, where
#: no part answers. Parts are weighed by the probability of its first token, which is "The" alone:
#: right answers can begin with the same token, and are then held back.
SILENCE = "The document does not say."
#: Text that people and programs get in its place: a refusal is no statement about the document.
NOT_FOUND = "Not found."
#: System text for bases that answer without training; `--system` replaces it.
INSTRUCTION = (
    "Answer the question from the text alone, in the language of the question. If the text does "
    f'not answer it, say "{SILENCE}"'
)

#: Behind a question that wants a few words, and behind others: without them, a base answers in a
#: sentence. In the system text, the wish for all steps made short answers refusals.
FEW_WORDS = " Answer in a few words."
IN_FULL = (
    " Be complete: give every step, item, key, name and number that the text has for the answer."
)
TOPICS = " Name the main topics, and what each is about."  # of an overview, all of which repeats it

_REFUSES = re.compile(join("refuses"))
_APOLOGY = re.compile(rf"^(?:{join('apology')})")
#: In an answer in lower case; "..." ends no sentence.
_SENTENCE_END = re.compile(r"(?<=[\w\"')][.!?])\s+|[。！]|\n")


def is_silence(answer: str) -> bool:
    """True if an answer is empty, or refuses: the answer is missing, or not known.

    The first sentence decides, without an apology: an answer that then adds "the document does not
    say more" is an answer. Knows the eight languages of `words.toml`.
    """
    text = answer.replace("\u2019", "'").lower()
    text = _APOLOGY.sub("", text.strip(" \t\n\"'*"))
    first = _SENTENCE_END.split(text, maxsplit=1)[0]
    first = " ".join(first.split()).rstrip(" .!?\"'*。！？")
    return not first or _REFUSES.search(first) is not None
