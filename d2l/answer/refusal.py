"""The refusal, in one place: "Not found." for the sentence that networks learned.

A refusal is no statement about the document, so people and programs never see that sentence.
"""

from d2l.datasets.silence import NOT_FOUND, SILENCE, is_silence

#: Text of a refusal, before it is shown.
REFUSAL = SILENCE
#: Characters in which a sentence shows that it refuses, as "The text does not say." does. Higher:
#: more refusals are found, and an answer's first words come later.
_LONGEST = 40


def show(text: str) -> str:
    """Show an answer's text: the learned refusal becomes "Not found."."""
    return NOT_FOUND if text.strip() == REFUSAL else text


def may_refuse(text: str) -> bool:
    """True if more text could make an answer the learned refusal."""
    return bool(text) and REFUSAL.startswith(text.strip())


def may_refuse_otherwise(text: str) -> bool:
    """True if a text is a refusal in any wording, or its beginning may be one."""
    return bool(text) and (len(text) < _LONGEST or is_silence(text))
