"""Documents of many kinds: the lines drawn on their pages, and those of them that are running."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.documents.samples import HALF_EM, make_pdf, pdf_line

TOPICS = ("Seals", "Valves", "Motors", "Filters", "Floats", "Gauges", "Cables", "Tanks", "Hoses")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September")
BODY_TOP = 670
#: Heights of lines in the margins, from near the edge to those of LaTeX.
TOPS, BOTTOMS = (772, 760, 742, 705), (20, 34, 48, 90)


class Drawn(NamedTuple):
    """A line on a page; `running`: readers want it dropped."""

    text: str
    y: float
    size: float = 10
    running: bool = False
    x: float = 72


Pages = list[list[Drawn]]


def draw(pages: Pages) -> bytes:
    """The pages as a PDF."""
    return make_pdf(
        ["\n".join(pdf_line(line.text, line.x, line.y, line.size) for line in p) for p in pages],
        font=HALF_EM,
    )


def column(
    texts: Sequence[str], top: float = BODY_TOP, leading: float = 12, x: float = 72
) -> list[Drawn]:
    """Lines one below the other."""
    return [Drawn(text, top - leading * n, x=x) for n, text in enumerate(texts)]


def spread(texts: Sequence[str], v: int, size: float = 10) -> list[Drawn]:
    """A few lines over the whole height of a page."""
    top, bottom = TOPS[v], BOTTOMS[v]
    step = (top - bottom) / (len(texts) - 1)
    return [Drawn(text, top - step * n, size) for n, text in enumerate(texts)]


def prose(n: int, v: int, width: int = 9) -> list[str]:
    """Many lines of text of page n, no two of them alike."""
    return [
        f"{TOPICS[(n + row) % 9]} of unit {100 * n + row} were checked in {MONTHS[(row + v) % 9]}"[
            : 9 * width
        ]
        for row in range(38)
    ]


def running(text: str, y: float, x: float = 72) -> Drawn:
    return Drawn(text, y, 10, True, x)


def deck(n: int, v: int) -> list[Drawn]:
    title = Drawn(f"Results Q{n} 2031", TOPS[v], (10, 28)[v % 2])
    facts = (f"Revenue: {411 + n} thousand EUR", f"Best shop: {TOPICS[n]}", f"Costs: {209 + n} EUR",
             f"Profit: {201 + n} thousand EUR")  # fmt: skip
    return [title, *spread(["", *facts], v)[1:]]


def invoice(n: int, v: int) -> list[Drawn]:
    top = [Drawn(f"Invoice {700 + n}", TOPS[v]), Drawn(f"Customer {TOPICS[n]}", TOPS[v] - 14)]
    rows = column([f"{TOPICS[n]} hose {n}, {3 * n * v} EUR"] * (1 + v))
    return [*top, *rows, Drawn(f"Amount due: {212 + n} EUR", BOTTOMS[v])]


def instruction(n: int, v: int) -> list[Drawn]:
    text = column(
        [f"Turn {TOPICS[n].lower()} to the left.", f"Check {TOPICS[n - 1]}."][: 1 + v % 2]
    )
    return [
        Drawn(f"Step {n}", TOPS[v], (10, 18)[v // 2]),
        *text,
        Drawn(f"Torque: {24 + n} Nm", BOTTOMS[v]),
    ]


def card(n: int, v: int) -> list[Drawn]:
    return spread([f"Question {n}", f"Where are the {TOPICS[n]}?", f"Answer {n}: box {40 + n}"], v)


def form(n: int, v: int) -> list[Drawn]:
    fields = column(
        [f"Name: {TOPICS[n]}", f"Born: {10 + n} {MONTHS[n]}", "Agreed: yes"], leading=30
    )
    return [Drawn(f"Form {n}", TOPS[v]), *fields, Drawn(f"Received on {n} May 2031", BOTTOMS[v])]


def meter(n: int, v: int) -> list[Drawn]:
    rows = [f"{MONTHS[row]}: {1000 * n + 17 * row} kWh" for row in range(3 + 2 * v)]
    return [
        Drawn(f"Meter reading {n}", TOPS[v]),
        *column(rows),
        Drawn(f"Total {7000 + n}", BOTTOMS[v]),
    ]


def prices(n: int, v: int) -> list[Drawn]:
    rows = [f"{TOPICS[(n + row) % 9]} {n}{row}: {row * n + 1}.50 EUR" for row in range(60)]
    return [Drawn(f"Prices of {MONTHS[n]}", TOPS[v] + 12), *column(rows, TOPS[v], 11.5)]


def recipe(n: int, v: int) -> list[Drawn]:
    title = Drawn(f"{TOPICS[n]} soup", TOPS[v], (10, 16)[v % 2])
    return [title, *column(prose(n, v)[:10]), Drawn(f"Serves {n + 1}", BOTTOMS[v])]


def lab(n: int, v: int) -> list[Drawn]:
    rows = [f"Value {row}: {n}.{row} mg/l" for row in range(20)]
    return [Drawn(f"Sample {100 + n}", TOPS[v]), *column(rows), Drawn(f"pH {n}.1", BOTTOMS[v])]


def sign(n: int, v: int) -> list[Drawn]:
    return [Drawn(f"Room {100 + n}", (TOPS[v], 400, BOTTOMS[v], BODY_TOP)[v])]


def months(n: int, v: int) -> list[Drawn]:
    facts = [
        f"{MONTHS[n]} 2031",
        f"Visitors: {n}11",
        f"Tickets: {n}07",
        f"Total of month {n}: {90 + n}",
    ]
    return spread(facts, v)


def minutes(n: int, v: int) -> list[Drawn]:
    number = (f"Page {n} of 6", f"- {n} -", f"Minutes, page {n}", f"{n}/6")[v]
    return [
        running("Minutes of the board", TOPS[v]),
        *column(prose(n, v), 680, 14 - v / 2),
        running(number, BOTTOMS[v]),
    ]


def article(n: int, v: int) -> list[Drawn]:
    title = [Drawn("On pumps and their seals", 690, 17), Drawn("By A. Holm", 672)] if n == 1 else []
    number = ("i", "ii", "iii", "iv", "v", "vi")[n - 1] if v == 3 else str(n + 40 * v)
    return [*title, *column(prose(n, v), 650), running(number, 90 + v, 300)]


def book(n: int, v: int) -> list[Drawn]:
    """Alternating titles of chapters and sections; a chapter has three pages."""
    chapter = (n - 1) // 3 + 1
    words = (
        f"Chapter {chapter}. {TOPICS[chapter]}"
        if n % 2
        else f"{chapter}.1 ALL ABOUT {TOPICS[chapter].upper()}"
    )
    heading = [
        Drawn(TOPICS[chapter], 690, 18),
        Drawn(f"{chapter}.1 All about {TOPICS[chapter]}", 660, 12),
    ]
    top = [running(words, 730 + v), running(str(n + 10), 730 + v, 500)]
    return [
        *(() if n % 3 == 1 and v < 2 else top),
        *(heading if n % 3 == 1 else ()),
        *column(prose(n, v), 640),
    ]


def paper(n: int, v: int) -> list[Drawn]:
    lines = prose(n, v, 4)
    columns = [
        *column(lines, 690, 15),
        *column([f"{line} too"[-38:] for line in lines], 690, 15, 330),
    ]
    return [
        running("Journal of Pumps 12 (2031)", TOPS[v] if v < 3 else 730),
        *columns,
        running(str(1040 + n), BOTTOMS[v], 300),
    ]


def letter(n: int, v: int) -> list[Drawn]:
    head = [Drawn("Holm & Sons, Kai 4, Bergen", TOPS[v]), Drawn("Phone 55 10 20", TOPS[v] - 12)]
    foot = running(f"Page {n}", BOTTOMS[v])
    return [*(head if n == 1 else ()), *column(prose(n, v)[: 30 - v], 650), foot]


KINDS: dict[str, Callable[[int, int], list[Drawn]]] = {
    make.__name__: make
    for make in (
        deck,
        invoice,
        instruction,
        card,
        form,
        meter,
        prices,
        recipe,
        lab,
        sign,
        months,
        minutes,
        article,
        book,
        paper,
        letter,
    )
}
N_PAGES = {"invoice": 3, "deck": 4, "book": 9}


def make(kind: str, v: int) -> Pages:
    """The pages of a document of a kind, in variant 0 to 3."""
    return [KINDS[kind](n, v) for n in range(1, N_PAGES.get(kind, 6) + 1)]
