"""Write the demo's handbook as a PDF: headings, a table, a footer on every page (needs reportlab).

The pump, its maker and everybody in it are invented, so that no model can know the answers.
Usage: python examples/make_handbook.py OUT.pdf [--tiny]   (--tiny: the first page only)
"""

import json
import sys
from pathlib import Path

from reportlab.lib import colors, pagesizes, styles
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

content = json.loads((Path(__file__).parent / "handbook.json").read_text("utf-8"))
sheet = styles.getSampleStyleSheet()
story = [Paragraph(content["title"], sheet["Title"]), Spacer(1, 12)]
for section in content["sections"][: 2 if "--tiny" in sys.argv else None]:
    if section.get("page_break"):
        story.append(PageBreak())
    story.append(Paragraph(section["heading"], sheet["Heading2"]))
    story += [Paragraph(text, sheet["BodyText"]) for text in section.get("text", [])]
    if "table" in section:
        rules = TableStyle([("GRID", (0, 0), (-1, -1), 0.5, colors.gray)])
        story += [Spacer(1, 6), Table(section["table"], style=rules, hAlign="LEFT")]


def draw_footer(canvas, document):
    """Put the running footer and the page number below the text."""
    canvas.setFont("Helvetica", 8)
    canvas.drawString(72, 40, f"{content['footer']} · page {document.page}")


out = next(argument for argument in sys.argv[1:] if not argument.startswith("--"))
document = SimpleDocTemplate(out, pagesize=pagesizes.A5, title=content["title"], invariant=1)
document.build(story, onFirstPage=draw_footer, onLaterPages=draw_footer)
