"""Whether documents can be refined on at all. Reads their text, and no weights."""

from collections.abc import Sequence
from pathlib import PurePath

from d2l.documents.document import Document
from d2l.refining.drills import FEWEST, sentences_of


def name_reason(documents: Sequence[Document]) -> str | None:
    """Why nothing can be refined on documents, in a sentence; None where it can."""
    found = len(sentences_of([document.text for document in documents]))
    if found >= FEWEST:
        return None
    names = ", ".join(PurePath(document.name).name for document in documents[:3])
    more = ", …" if len(documents) > 3 else ""
    sentences = "1 sentence" if found == 1 else f"{found} sentences"
    return (
        f"{names}{more}: {sentences} with something to ask for, and refining needs "
        f"{FEWEST}: the prediction is kept as it is"
    )
