"""What of a PDF page's text a reader cannot see, and why.

Takes a page and its operations, gives those that show hidden text. In doubt text is taken to be
seen: on pictures, on shadings, and in colors that are not told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pypdf import PageObject

from d2l.documents.findings import Finding, Kind
from d2l.documents.readers.pdf.annotations import paint_annotations
from d2l.documents.readers.pdf.canvas import LEAST_ALPHA, Canvas, Run, State
from d2l.documents.readers.pdf.geometry import Box, intersect, is_empty
from d2l.documents.readers.pdf.layers import Layers
from d2l.documents.readers.pdf.painter import Painter
from d2l.documents.readers.pdf.sight import Sight, list_paints, look
from d2l.documents.readers.pdf.strings import Operation
from d2l.documents.readers.pdf.widths import Measure

TINY = 1.0  # points: text of this size or less cannot be read
TINY_SHARE = 0.002  # of the page's height, for pages that are small themselves
MOST_AWAY = 0.9  # share of a run off the page, clipped away or covered that makes it hidden
LEAST_INKED = 0.3  # share of a run in another color than its ground that makes it seen
ON_IMAGE = 0.5  # share of a run on an image that makes it the text of a scan
MOST_OVER = 0.5  # of the page's width that a line that is too long runs off it
OFF, OVERFLOW = "off the page", "ends of lines off the page"
UNREAD = "in too many forms, or too deep in them"


Path = tuple[int, ...]  # to the operator that shows text, through forms


@dataclass(frozen=True)
class Hidden:
    """Text that cannot be seen: why, how many characters, and how far it moves the pen.

    `is_kept`: it is the end of a line that is too long, and no one meant to hide it.
    """

    reason: str
    n_chars: int
    kern: float
    is_kept: bool = False

    def tell(self, page: int) -> Finding:
        """What the user should know of it."""
        kind: Kind = "overflow" if self.is_kept else "hidden"
        return Finding(kind, self.reason, self.n_chars, (page,))


def find_hidden(
    page: PageObject, operations: Sequence[Operation], layers: Layers, known: dict[int, Measure]
) -> dict[Path, Hidden]:
    """Give what cannot be seen, by the path to the operator that shows it."""
    sheet = intersect(read_box(page.cropbox), read_box(page.mediabox))
    if is_empty(sheet):
        sheet = read_box(page.mediabox)
    canvas = Canvas(page.pdf, layers, known, sheet)
    Painter(canvas, page.get("/Resources"), State()).paint(operations)
    paint_annotations(page, canvas)
    tiny = min(TINY, TINY_SHARE * (sheet[3] - sheet[1]))
    found = {form.path: Hidden(UNREAD, form.n_chars, 0.0) for form in canvas.unread}
    before: Run | None = None
    for run, sight in zip(canvas.runs, look(canvas.runs, canvas.areas, sheet), strict=True):
        reason = explain(run, sight, tiny)
        joins = sight.is_begun or (before is not None and follows(before, run))
        if reason == OFF and joins and runs_over(run, sheet):
            found[run.path] = Hidden(OVERFLOW, run.n_chars, run.kern, is_kept=True)
        elif reason:
            found[run.path] = Hidden(reason, run.n_chars, run.kern)
        is_kept = run.path not in found or found[run.path].is_kept
        before = run if is_kept else None
    return found


def follows(before: Run, run: Run) -> bool:
    """Whether a run goes on with the line of the one before."""
    middle = (run.box[1] + run.box[3]) / 2
    on_line = before.box[1] <= middle <= before.box[3]
    return on_line and abs(run.box[0] - before.box[2]) <= run.height


def runs_over(run: Run, sheet: Box) -> bool:
    """Whether a run ends no farther off the page than lines do that are too long to be set."""
    return run.box[2] - sheet[2] <= MOST_OVER * (sheet[2] - sheet[0])


def read_box(rectangle: Any) -> Box:
    """A page's box with its corners in order."""
    left, bottom, right, top = (float(value) for value in rectangle)
    return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


def explain(run: Run, sight: Sight, tiny: float) -> str:
    """Say why a run cannot be seen; "" if it can. `tiny`: the largest size that is not, in points.

    Letters of a font of drawings have colors of their own, which are not looked at.
    """
    state = run.state
    if run.is_layer_off:
        return "on a layer that is off"
    if state.mode == 3 and not state.is_type3 and sight.on_image <= ON_IMAGE:
        return "drawn in the invisible mode"
    if state.mode == 7 and not state.is_type3 and sight.under_later <= ON_IMAGE:
        return "drawn in the invisible mode"
    size = min(run.height, run.width)
    if size == 0 or (size <= tiny and not state.is_type3):
        return "tiny"
    if sight.on_page < 1 - MOST_AWAY:
        return OFF
    if sight.in_clip < 1 - MOST_AWAY:
        return "clipped away"
    return "" if state.mode in (3, 7) or state.is_type3 else explain_colors(run, sight)


def explain_colors(run: Run, sight: Sight) -> str:
    """Say why a run on the page, in letters that are painted, cannot be seen; "" if it can."""
    if all(paint.alpha < LEAST_ALPHA for paint in list_paints(run)):
        return "transparent"
    if sight.inked < LEAST_INKED:
        return "in the color of its ground"
    if sight.seen < 1 - MOST_AWAY and sight.on_image <= ON_IMAGE:
        return "covered"  # by no image, which may be the scan it belongs to
    return ""
