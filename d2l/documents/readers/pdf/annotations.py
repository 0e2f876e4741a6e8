"""What lies over a PDF page: the pictures of its annotations and form fields.

Takes a page and the canvas that it is painted on; adds what its annotations paint. Their text is
not read, but what is under them may be covered.
"""

from typing import Any

from pypdf import PageObject
from pypdf.generic import DictionaryObject, StreamObject

from d2l.documents.readers.pdf.canvas import Canvas, State
from d2l.documents.readers.pdf.fonts import look_up, read_numbers
from d2l.documents.readers.pdf.geometry import IDENTITY, Box, Matrix, bound, transform_box
from d2l.documents.readers.pdf.painter import BAD_OPERANDS, paint_form, read_form_matrix

HIDDEN, NO_VIEW = 2, 32  # flags: not shown, or not on a screen
# What is shown on demand only, and what viewers let text through whatever its picture says.
NO_COVERS = ("/Popup", "/Highlight")
MAX_ANNOTATIONS = 5000  # of one page that are painted


def paint_annotations(page: PageObject, canvas: Canvas) -> None:
    """Paint what annotations show over a page. Runs of text are left out: no one reads them."""
    n_runs, n_unread = len(canvas.runs), len(canvas.unread)
    annotations = look_up(page, "/Annots")
    for annotation in annotations[:MAX_ANNOTATIONS] if isinstance(annotations, list) else ():
        try:
            paint_annotation(annotation.get_object(), canvas)
        except BAD_OPERANDS:
            continue
    del canvas.runs[n_runs:], canvas.unread[n_unread:]


def paint_annotation(annotation: Any, canvas: Canvas) -> None:
    """Paint one annotation where it stands, unless it is not shown."""
    flags = look_up(annotation, "/F") or 0
    layer = annotation.raw_get("/OC") if "/OC" in annotation else None
    is_off = flags & (HIDDEN | NO_VIEW) or canvas.layers.hides(layer)
    form = find_appearance(annotation)
    if form is None or is_off or look_up(annotation, "/Subtype") in NO_COVERS:
        return
    corners, place = (
        read_numbers(look_up(holder, key))
        for holder, key in ((form, "/BBox"), (annotation, "/Rect"))
    )
    if len(corners) == len(place) == 4:
        box = transform_box(read_form_matrix(form), read_corners(corners))
        paint_form(canvas, form, State(matrix=fit(box, read_corners(place))))


def find_appearance(annotation: DictionaryObject) -> StreamObject | None:
    """The form that an annotation shows in its present state; None if it shows none."""
    looks = look_up(annotation, "/AP")
    shown = look_up(looks, "/N") if isinstance(looks, DictionaryObject) else None
    if isinstance(shown, DictionaryObject) and not isinstance(shown, StreamObject):
        shown = look_up(shown, str(look_up(annotation, "/AS")))
    return shown if isinstance(shown, StreamObject) else None


def read_corners(numbers: list[float]) -> Box:
    """A box by two of its corners."""
    return bound([(numbers[0], numbers[1]), (numbers[2], numbers[3])])


def fit(box: Box, place: Box) -> Matrix:
    """The matrix that brings a box into another's place."""
    wide, high = box[2] - box[0], box[3] - box[1]
    if wide <= 0 or high <= 0:
        return IDENTITY
    a, d = (place[2] - place[0]) / wide, (place[3] - place[1]) / high
    return a, 0.0, 0.0, d, place[0] - a * box[0], place[1] - d * box[1]
