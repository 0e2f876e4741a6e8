"""Text of a page that a reader cannot see is left out and counted, and nothing else is."""

import zipfile
from io import BytesIO

import pytest

from d2l.readers.findings import Finding
from tests.documents.samples import CONTAINER, parse_here

GROUND = "in the color of its ground"
N_HIDDEN = len("hiddenwords")


def page(body: str, css: str = "") -> bytes:
    return (
        f"<!doctype html><html><head><style>{css}</style></head><body>{body}</body></html>".encode()
    )


@pytest.mark.parametrize(
    ("style", "reason"),
    [
        ("display:none", "not displayed"),
        ("DISPLAY : None", "not displayed"),
        ("display:none !important; display:block", "not displayed"),
        ("visibility:hidden", "invisible"),
        ("visibility:collapse", "invisible"),
        ("opacity:0", "transparent"),
        ("opacity:1%", "transparent"),
        ("opacity:0.06", "transparent"),
        ("opacity:1e-9", "transparent"),
        ("opacity:-1", "transparent"),
        ("color:transparent", "transparent"),
        ("color:rgba(0,0,0,0.01)", "transparent"),
        ("font-size:0", "tiny"),
        ("font-size:0rem", "tiny"),
        ("font-size:1px", "tiny"),
        ("font-size:2px", "tiny"),
        ("font-size:1e-3px", "tiny"),
        ("font-size:0.01em", "tiny"),
        ("font-size:2%", "tiny"),
        ("color:white", GROUND),
        ("color:#fff", GROUND),
        ("color:rgb(255 255 254)", GROUND),
        ("color:hsl(0, 0%, 99%)", GROUND),
        ("background:black;color:#020202", GROUND),
        ("background-color:rgba(0,0,0,0);color:white", GROUND),
        ("position:absolute;left:-9999px", "off the page"),
        ("position:absolute;left:-9999px;width:1px;height:1px", "off the page"),
        ("position:relative;left:-9999px", "off the page"),
        ("position:fixed;top:-100em", "off the page"),
        ("position:absolute;right:-9999px", "off the page"),
        ("text-indent:-9999px", "off the page"),
    ],
)
@pytest.mark.parametrize("by", ["style", "class", "id", "tag", "media"])
def test_hidden_text_is_left_out_and_counted(style: str, reason: str, by: str) -> None:
    attribute, css = {
        "style": (f'style="{style}"', ""),
        "class": ('class="a x"', f".x {{ {style} }}"),
        "id": ("id=x", f"div #x {{ {style} }}"),
        "tag": ("", f"p + p {{ {style} }}"),
        "media": ('class="x"', f"@media print, screen {{ .x {{ {style} }} }}"),
    }[by]
    data = page(f"<div><p>Seen.</p><p {attribute}>hidden <b>words</b></p><h2>More</h2></div>", css)
    document = parse_here(data, "a.html")
    assert document.text == "Seen.\n\nMore"
    assert {f.what for f in document.findings} == {reason}
    assert sum(f.count for f in document.findings) == N_HIDDEN
    included = parse_here(data, "a.html", include_hidden=True)
    assert "hidden words" in included.text
    assert included.findings == document.findings


@pytest.mark.parametrize(
    ("body", "css"),
    [
        ("<p hidden>hidden words</p>", ""),
        ("<p hidden style='display:revert'>hidden words</p>", ""),
        ("<div popover>hidden words</div>", ""),
        ('<font color="#ffffff">hidden words</font>', ""),
        ('<p class="x">hidden words</p>', "body { background: #123 } .x { color: #123 }"),
        ('<p class="x">hidden words</p>', ".x { color: black } p.x { color: white }"),
        ('<table><tr><td bgcolor="ff0000"><font color="ff0000">hidden words</font></table>', ""),
        ('<div style="opacity:.2"><p style="opacity:.2">hidden words</p></div>', ""),
        ('<div class="x"><p style="text-indent:inherit">hidden words', ".x{text-indent:-9999px}"),
        ('<div style="position:absolute;left:-9999px"><p>hidden words</p></div>', ""),
        ('<div style="position:absolute;top:-999em"><p style="position:absolute;left:9px">'
         "hidden words</p></div>", ""),
        ('<p class="x">hidden words</p>', "@media print { .x { display: block } } "
         ".x { display: none }"),
        ('<p class="x">hidden words</p>', "p:not(.y) { margin: 0 } .x { color: #fff }"),
        ('<p class="x" hidden>hidden words</p>', "@media (hover) { .x { display: none } }"),
    ],
)  # fmt: skip
def test_old_attributes_and_inherited_styles_count(body: str, css: str) -> None:
    document = parse_here(page(f"<p style='color:orange'>Seen.</p>{body}", css), "a.html")
    assert (document.text, document.findings[0].count) == ("Seen.", N_HIDDEN)


@pytest.mark.parametrize(
    "selector",
    [
        "div.o > p.x",
        "div p",
        ".o .x",
        "h2 ~ p",
        "h2 + p",
        "html body > .o > h2 + p[title]",
        "p[title=a]",
        "p[title|=a]",
        "p[title^='a'][title$='a'][title*='a'][title~='a']",
        "p:last-child",
        ".o.p p",
        "* > *.x",
        "b, p.x, p::before, a:hover",
        "p.x.x.x",
    ],
)
def test_a_selector_reaches_its_elements_and_no_others(selector: str) -> None:
    body = (
        "<p>Seen.</p><div class='o p'><h2>Head</h2><p class=x title=a>hidden words</p></div>"
        "<p class=y title=b>More.</p><p id=z></p>"
    )
    css = f"{selector} {{ display: none }} p.y, body > p {{ display: block !important }}"
    assert parse_here(page(body, css), "a.html").text == "Seen.\n\nHead\n\nMore."


@pytest.mark.parametrize(
    ("css", "is_hidden"),
    [
        ("#y { display: none } .x.x { display: block }", True),
        (".x { display: none } p { display: block }", True),
        (".x { display: none } .x { display: block }", False),
        ("#y { display: block } p { display: none !important }", True),
        ("p { display: none } :not(#q) { display: block }", False),
        ("p.x { display: none } [class] { display: block }", True),
    ],
)
def test_importance_and_specificity_decide_before_order(css: str, is_hidden: bool) -> None:
    document = parse_here(page("<b>Seen.</b><p class=x id=y>more</p>", css), "a.html")
    assert document.text == ("Seen." if is_hidden else "Seen.\n\nmore")


def test_what_follows_hidden_text_stays() -> None:
    body = (
        "<p>One <span style='display:none'>two </span>three "
        "<i style='color:#fff'>four <b>five</b> </i>six.</p>"
    )
    document = parse_here(page(body), "a.html")
    assert document.text == "One three six."
    assert sum(f.count for f in document.findings) == len("twofourfive")


def test_furniture_that_is_hidden_is_not_told() -> None:
    body = "<nav hidden>Menu</nav><div hidden><nav>Menu</nav></div><p>Seen.</p>"
    assert parse_here(page(body), "a.html").findings == ()


def make_book(chapter: str, css: str) -> bytes:
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest><item id="c" '
        'href="text/c.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="c"/></spine></package>'
    )
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/book.opf", package)
        archive.writestr("OEBPS/text/c.xhtml", chapter)
        archive.writestr("OEBPS/look.css", css)
    return out.getvalue()


def test_style_sheets_of_a_book_count() -> None:
    chapter = (
        '<html><head><link rel="stylesheet" href="../look.css"/><link rel="stylesheet" '
        'href="gone.css"/></head><body><p>Seen.</p><p class="x">hidden words</p></body></html>'
    )
    document = parse_here(make_book(chapter, ".x { display: none }"), "a.epub")
    assert document.text == "Seen."
    assert document.findings == (Finding("hidden", "not displayed", N_HIDDEN),)


def test_what_is_left_out_of_a_book_is_counted_together() -> None:
    body = "<p>Seen.</p><nav>a b</nav><svg><text>abc</text></svg>"
    assert parse_here(make_book(f"<body>{body}{body}</body>", ""), "a.epub").remarks == (
        "6 characters of menus and page furniture left out, 6 of drawings and buttons",
    )


def test_style_sheets_of_a_book_count_where_they_are_for_a_screen() -> None:
    link = '<link rel="stylesheet" media="print" href="../look.css"/>'
    chapter = f'<html><head>{link}</head><body><p class="x">Seen.</p></body></html>'
    assert parse_here(make_book(chapter, ".x { display: none }"), "a.epub").text == "Seen."


@pytest.mark.parametrize("digits", [5, 10, 5000])
def test_a_list_may_begin_with_any_number(digits: int) -> None:
    document = parse_here(page(f'<ol start="{"9" * digits}"><li>Item</li></ol>'), "a.html")
    assert document.text == f"{'99999' if digits == 5 else '1'}. Item"
