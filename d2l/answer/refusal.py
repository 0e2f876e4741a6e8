"""The refusal, in one place: "Not found." for the sentence that networks learned.

A refusal is no statement about the document, so people and programs never see that sentence.
"""

from d2l.datasets.silence import NOT_FOUND, SILENCE

#: Text of a refusal, before it is shown.
REFUSAL = SILENCE


def show(text: str) -> str:
    """Show an answer's text: the learned refusal becomes "Not found."."""
    return NOT_FOUND if text.strip() == REFUSAL else text


def may_refuse(text: str) -> bool:
    """True if more text could make an answer the learned refusal."""
    return bool(text) and REFUSAL.startswith(text.strip())
