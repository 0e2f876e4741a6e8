"""PDF pages drawn by pdfium, to find text without visible ink.

Only the reader imports this module, in a child process: pdfium is native code.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_raw
from numpy.typing import NDArray

from d2l.readers.pdf.runs import MAX_DEPTH, Run, Runs

Box = tuple[float, float, float, float]  # left, bottom, right, top, in points
Mask = NDArray[np.bool_]  # rows of pixels from the top, columns
Pixels = NDArray[np.uint8]  # rows, columns, colors

MAX_PIXELS = 1e6  # of a drawn page: 100 per inch of US Letter
MAX_COATS = 30  # layers of paint on a page; pages with more are drawn with fewer pixels
LEAST_CHANGE = 16  # of 255, in one color: a fainter change cannot be seen
LEAST_SHARE = 0.1  # of the columns of pixels of letters: fewer cannot be read
LETTER_WIDTH = 0.3  # of an em: most letters are wider
SURE_LETTERS = 3  # of a font of two-byte codes: others may be spaces or missing glyphs
MAX_LAYERS = 8  # of overlapping texts that are judged apart
BLANK = 0.05  # of an em: a dot is larger
LEAST_PIXELS = 1.0  # of an em
# Annotations that are shown on demand only, or are transparent.
NO_COVERS = (pdfium_raw.FPDF_ANNOT_POPUP, pdfium_raw.FPDF_ANNOT_HIGHLIGHT)
IMAGE = pdfium_raw.FPDF_PAGEOBJ_IMAGE
TEXT, FORM = pdfium_raw.FPDF_PAGEOBJ_TEXT, pdfium_raw.FPDF_PAGEOBJ_FORM


class ViewError(Exception):
    """pdfium cannot open or draw a page, or finds other text on it than pypdf."""


@dataclass
class Text:
    """A run with its position in pdfium, in points; its baseline begins at `x`, `y`."""

    run: Run
    raw: Any
    mode: int
    box: Box  # around the ink of its letters
    x: float
    y: float
    height: float  # of an em on the page
    width: float  # of an em on the page
    on_image: float = 0.0  # share of it that lies on images
    under_later: float = 0.0  # share of it that lies under later objects


class Viewer:
    """A document in pdfium."""

    def __init__(self, data: bytes, password: str | None, n_pages: int) -> None:
        self._pdf: Any = None
        for attempt in (None, password):
            with suppress(pdfium.PdfiumError):
                pdf = pdfium.PdfDocument(data, attempt)
                self._pdf = pdf if len(pdf) == n_pages else None
        self.is_open = self._pdf is not None

    def open_page(self, index: int, shown: Runs) -> "View":
        """Open a page with its runs; raises ViewError, also for forms that would keep pdfium
        busy."""
        if self._pdf is None or shown.unread or shown.are_slow():
            raise ViewError
        try:
            return View(self._pdf[index], shown.runs)
        except (pdfium.PdfiumError, ArithmeticError, ValueError) as error:
            raise ViewError from error

    def flatten(self, numbers: Iterable[int]) -> bytes:
        """Save the file with annotations and form fields as content of these pages, counted from 1;
        raises ViewError. The viewer cannot be used afterwards."""
        if self._pdf is None:
            raise ViewError
        flat = BytesIO()
        try:
            self._pdf.init_forms()  # gives fields without an appearance one
            for number in numbers:
                page = self._pdf[number - 1]
                drop_annotations(page)
                pdfium_raw.FPDFPage_Flatten(page, pdfium_raw.FLAT_NORMALDISPLAY)
            self._pdf.save(flat, flags=pdfium_raw.FPDF_REMOVE_SECURITY)
        except pdfium.PdfiumError as error:
            raise ViewError from error
        return flat.getvalue()


class View:
    """The texts of a page, in the order in which they are painted, and its pixels."""

    def __init__(self, page: Any, runs: Sequence[Run]) -> None:
        self._page = page
        page.set_rotation(0)
        drop_annotations(page)
        self.sheet: Box = page.get_bbox()
        objects = list(list_objects(page))
        drawn = [placed for placed in objects if placed[0].type == TEXT]
        if [item.level + 1 for item, _, _ in drawn] != [len(run.path) for run in runs]:
            raise ViewError
        self.texts = [place_text(run, *placed) for run, placed in zip(runs, drawn, strict=True)]
        wide, high = self.sheet[2] - self.sheet[0], self.sheet[3] - self.sheet[1]
        n_coats = sum(math.prod(overlap(box, self.sheet)) for _, _, box in objects) / (wide * high)
        self._scale = math.sqrt(MAX_PIXELS / max(1.0, n_coats / MAX_COATS) / (wide * high))
        self._everything = self._draw()
        self._measure_neighbors([(item, box) for item, _, box in objects])

    def share_on_page(self, box: Box) -> float:
        """Share of a box that is on the page."""
        left, bottom, right, top = self.sheet
        wide, high = overlap(box, self.sheet)
        across = wide / (box[2] - box[0]) if box[2] > box[0] else left <= box[0] <= right
        return across * (high / (box[3] - box[1]) if box[3] > box[1] else bottom <= box[1] <= top)

    def _measure_neighbors(self, objects: Sequence[tuple[Any, Box]]) -> None:
        """Measure how much of each text is on images, and under objects that are painted later."""
        images, later = self._blank(), self._blank()
        texts = reversed(self.texts)
        for item, box in reversed(objects):
            pixels = self._pixels_of(box)
            if item.type == TEXT:
                next(texts).under_later = share(later[pixels])
            elif item.type != FORM:
                later[pixels] = True
                is_clear = pdfium_raw.FPDFPageObj_HasTransparency(item.raw)
                images[pixels] |= item.type == IMAGE and not is_clear
        for text in self.texts:
            text.on_image = share(images[self._pixels_of(text.box)])

    def is_undrawn(self, text: Text) -> bool:
        """True if a text has no ink in any color: pdfium lacks its glyphs, or has too few pixels.
        Strokes slightly widen the box of a space."""
        wide, high = text.box[2] - text.box[0], text.box[3] - text.box[1]
        is_blank = min(wide, high) <= 0 or max(wide, high) < BLANK * text.height
        return is_blank or text.height * self._scale < LEAST_PIXELS

    def find_unseen(self, texts: Sequence[Text]) -> Iterator[Text]:
        """Yield the texts whose ink changes no pixels; in doubt, text counts as visible.

        The page is drawn with all text and without any. For text without changed pixels of its own
        that overlaps other text, it is drawn with this text alone, and without this text alone.
        """
        switch(self.texts, on=False)
        nothing = self._draw()
        ink = self._compare(self._everything, nothing)
        n_texts = np.zeros(ink.shape, np.int32)
        for text in self.texts:
            n_texts[self._pixels_of(text.box)] += 1
        alone = ink & (n_texts == 1)
        unclear = []
        for text in texts:
            if not self._shows(text, ink):
                yield text
            elif not self._shows(text, alone):
                unclear.append(text)
        for layer in self._part(unclear):
            switch(layer, on=True)
            added = self._compare(self._draw(), nothing)
            switch(self.texts, on=True)
            switch(layer, on=False)
            taken = self._compare(self._draw(), self._everything)
            switch(self.texts, on=False)
            for text in layer:
                if not self._shows(text, added) and not self._shows(text, taken):
                    yield text

    def _part(self, texts: Iterable[Text]) -> list[list[Text]]:
        """Part texts into layers without overlaps; the last layer takes all the rest."""
        masks: list[Mask] = []
        layers: list[list[Text]] = []
        for text in texts:
            pixels = self._pixels_of(text.box)
            free = (n for n, mask in enumerate(masks) if not mask[pixels].any())
            at = next(free, len(masks))
            if at == len(layers):
                layers.append([])
            if at == len(masks) and at < MAX_LAYERS:
                masks.append(self._blank())
            layers[at].append(text)
            if at < MAX_LAYERS:
                masks[at][pixels] = True
        return layers

    def _shows(self, text: Text, changes: Mask) -> bool:
        """True if enough of a text is on changed pixels."""
        part = changes[self._pixels_of(text.box)]
        n_changed = np.count_nonzero(part.any(axis=0 if part.shape[1] >= part.shape[0] else 1))
        n_letters = (
            min(text.run.n_chars, SURE_LETTERS) if text.run.is_composite else text.run.n_chars
        )
        letters = n_letters * LETTER_WIDTH * text.width * self._scale
        return bool(n_changed >= max(1.0, LEAST_SHARE * min(max(part.shape), letters)))

    def _draw(self) -> Pixels:
        maker = pdfium.PdfBitmap.new_foreign  # its pixels outlive it
        try:
            bitmap = self._page.render(
                scale=self._scale, may_draw_forms=False, prefer_bgrx=True, bitmap_maker=maker
            )
        except (pdfium.PdfiumError, ValueError) as error:
            raise ViewError from error
        return np.asarray(bitmap.to_numpy())

    def _blank(self) -> Mask:
        return np.zeros(self._everything.shape[:2], np.bool_)

    def _compare(self, one: Pixels, two: Pixels) -> Mask:
        """Find pixels that visibly differ; the fewer pixels, the paler is thin ink."""
        changed = np.flatnonzero(one.view(np.uint32) != two.view(np.uint32))
        colors = (pixels.reshape(-1, 4)[changed, :3].astype(np.int16) for pixels in (one, two))
        difference = np.abs(np.subtract(*colors)).max(axis=1, initial=0)
        least = max(1.0, LEAST_CHANGE * min(1.0, self._scale))
        mask = self._blank()
        mask.reshape(-1)[changed[difference >= least]] = True
        return mask

    def _pixels_of(self, box: Box) -> tuple[slice, slice]:
        """Find the pixels of a box."""
        left, bottom, right, top = self.sheet
        n_rows, n_columns = self._everything.shape[:2]
        across, down = n_columns / (right - left), n_rows / (top - bottom)
        return (
            cut(n_rows, (top - box[3]) * down, (top - box[1]) * down),
            cut(n_columns, (box[0] - left) * across, (box[2] - left) * across),
        )


def overlap(one: Box, two: Box) -> tuple[float, float]:
    """Width and height of the overlap of two boxes."""
    wide = min(one[2], two[2]) - max(one[0], two[0])
    high = min(one[3], two[3]) - max(one[1], two[1])
    return max(0.0, wide), max(0.0, high)


def cut(n_pixels: int, start: float, end: float) -> slice:
    """Cut the pixels of a row or column between two positions."""
    first, last = (min(max(position, 0.0), n_pixels) for position in (start, end))
    return slice(math.floor(first), math.ceil(last))


def share(mask: Mask) -> float:
    """Share of pixels that are set."""
    return float(mask.mean()) if mask.size else 0.0


def switch(texts: Iterable[Text], *, on: bool) -> None:
    """Switch the drawing of texts on or off."""
    for text in texts:
        pdfium_raw.FPDFPageObj_SetIsActive(text.raw, on)


def drop_annotations(page: Any) -> None:
    """Drop, in memory, annotations that cover no text or are not shown."""
    for index in reversed(range(pdfium_raw.FPDFPage_GetAnnotCount(page))):
        annotation = pdfium_raw.FPDFPage_GetAnnot(page, index)
        kind = pdfium_raw.FPDFAnnot_GetSubtype(annotation)
        unseen = pdfium_raw.FPDFAnnot_GetFlags(annotation) & pdfium_raw.FPDF_ANNOT_FLAG_NOVIEW
        pdfium_raw.FPDFPage_CloseAnnot(annotation)
        if unseen or kind in NO_COVERS:
            pdfium_raw.FPDFPage_RemoveAnnot(page, index)


def list_objects(page: Any) -> Iterator[tuple[Any, Any, Box]]:
    """Yield the objects of a page and its forms: each with its matrix to the page, and its box."""
    matrices = [pdfium.PdfMatrix()]  # of the open forms
    for item in page.get_objects(max_depth=MAX_DEPTH + 1):
        outer = matrices[item.level]
        matrix = item.get_matrix().multiply(outer) if item.type in (TEXT, FORM) else outer
        if item.type == FORM:
            matrices[item.level + 1 :] = [matrix]
        yield item, matrix, outer.on_rect(*item.get_bounds())


def place_text(run: Run, item: Any, matrix: Any, box: Box) -> Text:
    """Compute the position and size of a run."""
    mode = pdfium_raw.FPDFTextObj_GetTextRenderMode(item.raw)
    a, b, c, d, x, y = matrix.get()
    along, size = math.hypot(a, b), item.get_font_size()
    height = abs(size * (a * d - b * c) / along) if along else 0.0
    return Text(run, item.raw, mode, box, x, y, height, abs(size) * along)
