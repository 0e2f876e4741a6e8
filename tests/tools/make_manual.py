"""Write examples/manual.txt as a PDF: contents, tables, notes, bookmarks and running lines.

The roaster, its maker and everybody in it are invented, so that no model can know the answers.
Usage: python tests/tools/make_manual.py OUT.pdf
"""

import re
import sys
from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table
from reportlab.platypus.tableofcontents import TableOfContents

MARGIN, PADDING = 68, 6  # points; the padding is that of reportlab's frames
TEXT = ParagraphStyle("text", fontSize=10.5, leading=15, spaceAfter=7)
BOLD = ParagraphStyle("bold", TEXT, fontName="Helvetica-Bold", spaceBefore=8, keepWithNext=1)
TITLE = ParagraphStyle("title", BOLD, fontSize=28, leading=42, spaceAfter=14)
CHAPTER = ParagraphStyle("chapter", BOLD, fontSize=18, leading=24, spaceBefore=22)
FRONT = ParagraphStyle("front", CHAPTER)
SECTION = ParagraphStyle("section", BOLD, fontSize=13, leading=18, spaceBefore=12)
ITEM = ParagraphStyle("item", TEXT, leftIndent=22, bulletIndent=5, spaceAfter=2)
NOTE = ParagraphStyle(
    "note",
    TEXT,
    backColor="#fdebc8",
    borderPadding=6,
    leftIndent=6,
    rightIndent=6,
    spaceBefore=12,
    spaceAfter=18,
)
STYLES = {"#": TITLE, "##": CHAPTER, "###": SECTION, ">": NOTE}
HEAD, ALL = ((0, 0), (-1, 0)), ((0, 0), (-1, -1))
RULES = [
    ("GRID", *ALL, 0.5, "#808080"),
    ("FONTSIZE", *ALL, 10),
    ("FONTNAME", *HEAD, "Helvetica-Bold"),
    ("BACKGROUND", *HEAD, "#e4e4e4"),
]


class Manual(SimpleDocTemplate):
    """Lists chapters and sections in the contents and in the bookmarks."""

    def afterFlowable(self, flowable: Flowable) -> None:
        """Note the page of a heading."""
        style = getattr(flowable, "style", None)
        if style in (CHAPTER, SECTION):
            heading, level = flowable.getPlainText(), int(style is SECTION)
            self.canv.bookmarkPage(heading)
            self.canv.addOutlineEntry(heading, heading, level)
            self.notify("TOCEntry", (level, heading, self.page, heading))


class Entry(Flowable):
    """A line of the contents: heading, dots, page. It is a link to the heading.

    reportlab's own lines draw the dots first, so that programs read them before the heading.
    """

    def __init__(self, level: int, heading: str, page: int, key: str) -> None:
        super().__init__()
        self.level, self.heading, self.page, self.key = level, heading, page, key

    def wrap(self, width: float, _height: float) -> tuple[float, float]:
        """Take the whole width; a chapter gets more space above."""
        self.width, self.height = width, 12.0 if self.level else 17.0
        return self.width, self.height

    def draw(self) -> None:
        """Draw all in one string, spaced so that it fills the width."""
        font, left = ("Helvetica", 16.0) if self.level else (BOLD.fontName, 0.0)
        self.canv.setFont(font, 10)
        room = self.width - left - self.canv.stringWidth(f"{self.heading}  {self.page}", font, 10)
        n_dots, slack = divmod(room, self.canv.stringWidth(".", font, 10))
        line = f"{self.heading} {'.' * int(n_dots)} {self.page}"
        self.canv.drawString(left, 3, line, charSpace=slack / (len(line) - 1))
        self.canv.linkRect("", self.key, (left, 0, self.width, 13), relative=1)


class Contents(TableOfContents):
    """Collects headings as its parent does, and draws each as an `Entry`."""

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        """Lay out the entries of the last pass."""
        entries = [[Entry(*entry)] for entry in self._lastEntries] or [[""]]
        flat = [(f"{side}PADDING", *ALL, 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]
        self._table = Table(entries, colWidths=[width], style=flat)
        self.width, self.height = self._table.wrapOn(self.canv, width, height)
        return self.width, self.height


def lay_out(block: str) -> list[Flowable]:
    """Turn a block of the source into parts of a page, by the mark that it begins with."""
    mark, _, rest = block.partition(" ")
    lines = block.split("\n")
    if mark == "[TOC]":
        return [PageBreak(), Paragraph("Contents", FRONT), Contents(), PageBreak()]
    if mark == "|":
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return [Table([rows[0], *rows[2:]], style=RULES, hAlign="LEFT", spaceAfter=12)]
    if mark in ("-", "1."):
        items = [line.split(" ", 1) for line in lines]
        bullets = [Paragraph(text, ITEM, bulletText=sign.replace("-", "•")) for sign, text in items]
        return [*bullets, Spacer(1, 5)]
    if mark == "Table":
        return [Paragraph(block, BOLD)]
    above = [Spacer(1, 180)] if mark == "#" else []
    return [*above, Paragraph(rest if mark in STYLES else block, STYLES.get(mark, TEXT))]


def draw_running_lines(canvas: Canvas, manual: Manual) -> None:
    """Draw the header and the page number."""
    canvas.setFont("Helvetica", 8.5)
    left, right = MARGIN + PADDING, A4[0] - MARGIN - PADDING
    canvas.drawString(left, A4[1] - 44, manual.title)
    canvas.drawRightString(right, A4[1] - 44, "HW-4417")
    canvas.drawString(left, 40, manual.author)
    canvas.drawRightString(right, 40, str(manual.page))


def write_manual(path: Path) -> None:
    """Write the PDF. The same source and version of reportlab give the same bytes."""
    source = (Path(__file__).parents[2] / "examples" / "manual.txt").read_text("utf-8")
    source = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", source.strip().replace("&", "&amp;"))
    source = re.sub(r"`(.+?)`", r'<font name="Courier">\1</font>', source)
    story = [part for block in source.split("\n\n") for part in lay_out(block)]
    words = {"title": "Pellen D7 user manual", "author": "Harrowick & Wendry"}
    margins = dict.fromkeys(("leftMargin", "rightMargin", "topMargin", "bottomMargin"), MARGIN)
    manual = Manual(str(path), pagesize=A4, invariant=1, lang="en", **words, **margins)
    manual.multiBuild(story, onLaterPages=draw_running_lines)


if __name__ == "__main__":
    write_manual(Path(sys.argv[1]))
