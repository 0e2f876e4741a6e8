"""Hidden text of a PDF page, with the reasons.

The runs of a page, and the page in a viewer in, the runs to leave out out. In doubt text counts as
visible.
"""

import pypdfium2.raw as pdfium_raw

from d2l.readers.findings import Finding
from d2l.readers.pdf.runs import Runs
from d2l.readers.pdf.strings import Path
from d2l.readers.pdf.viewer import Text, View

TINY = 1.0  # points: text of this size or less cannot be read
TINY_SHARE = 0.002  # of the page's height, for small pages
MOST_AWAY = 0.9  # share of a run off the page: then it is hidden
ON_IMAGE = 0.5  # share of a run on an image: then it is the text of a scan
MOST_OVER = 0.5  # of the page's width, for the end of a line off the page
OFF, OVERFLOW = "off the page", "ends of lines off the page"
UNSEEN = "invisible on the page"
INVISIBLE = pdfium_raw.FPDF_TEXTRENDERMODE_INVISIBLE
CLIPPING = pdfium_raw.FPDF_TEXTRENDERMODE_CLIP
UNREAD = "in too many forms, or too deep in them"


def find_hidden(shown: Runs, view: View | None, page: int) -> dict[Path, Finding]:
    """Find the hidden text of a page, by the path to its operator.

    Ends of lines that are too long are `overflow`: nobody meant to hide them. Without a view, all
    text that was read counts as visible.
    """
    findings = {
        path: Finding("hidden", reason, n_chars, (page,))
        for reason, paths in ((UNREAD, shown.unread), (UNSEEN, shown.undrawn))
        for path, n_chars in paths.items()
    }
    if view is None:
        return findings
    inked = [text for text in view.texts if text.run.n_chars]
    reasons = {text.run.path: explain(text, view) for text in inked}
    judged = [text for text in inked if not reasons[text.run.path] and not is_exempt(text, view)]
    if judged:
        reasons |= {text.run.path: UNSEEN for text in view.find_unseen(judged)}
    before: Text | None = None
    left, bottom, right, top = view.sheet
    for text in inked:
        path, n_chars = text.run.path, text.run.n_chars
        reason = reasons[path]
        is_begun = left <= text.x < right and bottom <= text.y < top
        joins = is_begun or (before is not None and follows(before, text))
        # Ends of too long lines do not reach farther.
        if reason == OFF and joins and text.box[2] - right <= MOST_OVER * (right - left):
            findings[path] = Finding("overflow", OVERFLOW, n_chars, (page,))
        elif reason:
            findings[path] = Finding("hidden", reason, n_chars, (page,))
        before = text if path not in findings or findings[path].kind == "overflow" else None
    return findings


def explain(text: Text, view: View) -> str:
    """Explain by its position and mode why a text is hidden; "" if they do not tell."""
    share = text.on_image if text.mode == INVISIBLE else text.under_later
    if text.mode in (INVISIBLE, CLIPPING) and share <= ON_IMAGE and not text.run.is_type3:
        return "drawn in the invisible mode"
    size = min(text.height, text.width)
    tiny = min(TINY, TINY_SHARE * (view.sheet[3] - view.sheet[1]))
    if size == 0 or (size <= tiny and not text.run.is_type3):
        return "tiny"
    return OFF if view.share_on_page(text.box) < 1 - MOST_AWAY else ""


def is_exempt(text: Text, view: View) -> bool:
    """True if pixels do not show if a text is hidden: it belongs to a scan, clips later objects, is
    not drawn by pdfium, or its glyphs are drawings of any size."""
    is_undrawn = text.mode in (INVISIBLE, CLIPPING) or view.is_undrawn(text)
    return is_undrawn or text.run.is_type3 or text.on_image > ON_IMAGE


def follows(before: Text, text: Text) -> bool:
    """True if a text continues the line of the text before."""
    on_line = abs(text.y - before.y) <= before.height / 2
    return on_line and abs(text.x - before.box[2]) <= text.height
