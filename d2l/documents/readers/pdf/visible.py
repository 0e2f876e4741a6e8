"""What of a PDF page's text a reader cannot see, and why.

Takes a page and its operations, gives those that show hidden text. In doubt text is taken to be
seen: on pictures, on shadings, and in colors that are not told.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pypdf import PageObject

from d2l.documents.findings import Finding, Kind
from d2l.documents.readers.colors import BLACK, WHITE, Color, looks_like
from d2l.documents.readers.pdf.canvas import Area, Canvas, Run, State
from d2l.documents.readers.pdf.geometry import Box, intersect, is_empty, share_inside
from d2l.documents.readers.pdf.layers import Layers
from d2l.documents.readers.pdf.painter import Painter
from d2l.documents.readers.pdf.strings import Operation
from d2l.documents.readers.pdf.widths import Measure

TINY = 1.0  # points: text of this size or less cannot be read
TINY_SHARE = 0.002  # of the page's height, for pages that are small themselves
EDGE = 1.0  # points that text must be away from the page's edge, or a clip's, to be outside
UNDER = 0.7  # share of text over an area that makes it the text's ground
OVER = 0.95  # share of text under an area that covers it
OTHER_GROUND = 0.3  # share of text over other things, from which on its ground is not known
MOST_OVER = 0.5  # of the page's width that a line that is too long runs off it
LEAST_ALPHA = 0.07  # black of less on white has less contrast than `colors.LEAST_CONTRAST`
OFF, OVERFLOW = "off the page", "ends of lines off the page"
MAX_COVERS = 2000  # areas that may cover text; on pages with more, text is taken to be seen
#: Ways to blend in which white leaves no trace, whatever the ground; black; white on white.
WHITE_VANISHES = ("/Darken", "/Multiply", "/ColorBurn")
BLACK_VANISHES = ("/Screen", "/Lighten", "/ColorDodge", "/Difference", "/Exclusion")
WHITE_STAYS_WHITE = ("/Screen", "/Lighten", "/ColorDodge", "/Overlay", "/HardLight", "/SoftLight")
GRID = [((x + 0.5) / 16, (y + 0.5) / 4) for x in range(16) for y in range(4)]  # of a run's box


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
    judge = _Judge(canvas)
    found: dict[Path, Hidden] = {}
    before: Run | None = None
    for run in canvas.runs:
        reason = judge.explain(run)
        if reason == OFF and before is not None and runs_over(before, run, sheet):
            found[run.path] = Hidden(OVERFLOW, run.n_chars, run.kern, is_kept=True)
        elif reason:
            found[run.path] = Hidden(reason, run.n_chars, run.kern)
        is_kept = run.path not in found or found[run.path].is_kept
        before = run if is_kept else None
    return found


def runs_over(before: Run, run: Run, sheet: Box) -> bool:
    """Whether a run off the page ends a line that begins on it, as lines too long to be set do."""
    middle = (run.box[1] + run.box[3]) / 2
    on_line = before.box[1] <= middle <= before.box[3]
    joined = abs(run.box[0] - before.box[2]) <= run.height
    return on_line and joined and run.box[2] - sheet[2] <= MOST_OVER * (sheet[2] - sheet[0])


def read_box(rectangle: Any) -> Box:
    """A page's box with its corners in order."""
    left, bottom, right, top = (float(value) for value in rectangle)
    return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


class _Judge:
    """Decides about the runs of one page."""

    def __init__(self, canvas: Canvas) -> None:
        self._page = canvas.page
        self._areas = [area for area in canvas.areas if not is_empty(area.box)]
        self._orders = [area.order for area in self._areas]
        self._images = [area for area in self._areas if area.is_image]
        self._covers = [area for area in self._areas if area.is_solid]
        self._solid = [area for area in self._covers if is_wide(area.box)]
        self._grounds: dict[Color, list[Area]] = {}  # by the color of text
        height = canvas.page[3] - canvas.page[1]
        self._tiny = min(TINY, TINY_SHARE * height)

    def explain(self, run: Run) -> str:
        """Say why a run cannot be seen; "" if it can."""
        state = run.state
        if run.is_layer_off:
            return "on a layer that is off"
        if state.mode == 3 and not state.is_type3 and not self._is_on_image(run):
            return "drawn in the invisible mode"
        if state.mode == 7 and not state.is_type3 and not self._shows_through(run):
            return "drawn in the invisible mode"
        size = min(run.height, run.width)
        if size == 0 or (size <= self._tiny and not state.is_type3):
            return "tiny"
        if is_outside(run.box, self._page):
            return OFF
        if is_outside(run.box, state.clip):
            return "clipped away"
        if state.mode not in (3, 7) and not state.is_type3:
            if self._has_no_ink(run):
                return "in the color of its ground"
            fill, stroke = (
                alpha * state.group_alpha for alpha in (state.fill_alpha, state.stroke_alpha)
            )
            if fill < LEAST_ALPHA and (stroke < LEAST_ALPHA or state.mode in (0, 4)):
                return "transparent"
            if self._is_covered(run):
                return "covered"
        return ""

    def _is_on_image(self, run: Run) -> bool:
        """Whether text lies on an image, as the text of a scan does."""
        return any(share_inside(run.box, area.box) > 0.5 for area in self._images)

    def _shows_through(self, run: Run) -> bool:
        """Whether something is painted after text that is a stencil, where it is cut out."""
        later = self._areas[bisect_left(self._orders, run.order) :]
        return any(share_inside(run.box, area.box) > 0.5 for area in later)

    def _has_no_ink(self, run: Run) -> bool:
        """Whether all that a run paints has the color of what is under it."""
        state = run.state
        inks = {0: [state.fill], 4: [state.fill], 1: [state.stroke], 5: [state.stroke]}.get(
            state.mode, [state.fill, state.stroke]
        )
        if state.is_masked:
            return False
        if state.blend in WHITE_VANISHES and all(looks_like(ink, WHITE) for ink in inks):
            return True
        if state.blend in BLACK_VANISHES and all(looks_like(ink, BLACK) for ink in inks):
            return True
        if state.blend in WHITE_STAYS_WHITE and all(looks_like(ink, WHITE) for ink in inks):
            return self._is_on_like(run, WHITE)
        return state.blend == "/Normal" and all(self._is_on_like(run, ink) for ink in inks)

    def _is_on_like(self, run: Run, ink: Color) -> bool:
        """Whether a run lies on paper, or on an area, of its own color."""
        if ink is None:
            return False
        if ink not in self._grounds:
            self._grounds[ink] = [area for area in self._solid if looks_like(ink, area.color)]
        under = [area for area in self._grounds[ink] if area.order < run.order]
        ground = next((a for a in reversed(under) if share_inside(run.box, a.box) > UNDER), None)
        if ground is None and not looks_like(ink, WHITE):
            return False
        first = bisect_left(self._orders, ground.order if ground else 0)
        others = 0.0
        for area in self._areas[first : bisect_left(self._orders, run.order)]:
            if not looks_like(ink, area.color):
                others += share_inside(run.box, area.box)
                if others > OTHER_GROUND:
                    return False
        return True

    def _is_covered(self, run: Run) -> bool:
        """Whether something solid is painted over a run, and no image, which may be its scan."""
        covers = [area for area in self._covers if area.order > run.order]
        if not covers or len(covers) > MAX_COVERS:
            return False
        over = [area.box for area in covers if share_inside(run.box, area.box) > 0]
        hidden = any(share_inside(run.box, box) > OVER for box in over) or covers_together(
            run.box, over
        )
        return hidden and not self._is_on_image(run)


def covers_together(box: Box, others: Sequence[Box]) -> bool:
    """Whether boxes leave nothing of one uncovered, as strips side by side do."""
    if len(others) < 2:
        return False
    width, height = box[2] - box[0], box[3] - box[1]
    points = ((box[0] + x * width, box[1] + y * height) for x, y in GRID)
    return all(
        any(left <= x <= right and bottom <= y <= top for left, bottom, right, top in others)
        for x, y in points
    )


def is_wide(box: Box) -> bool:
    """Whether an area is more than a line."""
    return box[2] - box[0] > 2 and box[3] - box[1] > 2


def is_outside(box: Box, frame: Box) -> bool:
    """Whether a box lies outside of a frame altogether."""
    wide = (frame[0] - EDGE, frame[1] - EDGE, frame[2] + EDGE, frame[3] + EDGE)
    return is_empty(frame) or is_empty(intersect(box, wide))
