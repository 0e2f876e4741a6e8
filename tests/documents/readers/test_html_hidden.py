"""Text of a page that a reader cannot see is left out and counted, and nothing else is."""

import zipfile
from io import BytesIO

import pytest

from d2l.documents.findings import Finding
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
        ("content-visibility:hidden", "not displayed"),
        ("visibility:hidden", "invisible"),
        ("opacity:0", "transparent"),
        ("opacity:1%", "transparent"),
        ("filter:opacity(0)", "transparent"),
        ("color:transparent", "transparent"),
        ("color:rgba(0,0,0,0.01)", "transparent"),
        ("font-size:0", "tiny"),
        ("font-size:1px", "tiny"),
        ("font-size:0.01em", "tiny"),
        ("font-size:2%", "tiny"),
        ("font:0px serif", "tiny"),
        ("color:white", GROUND),
        ("color:#fff", GROUND),
        ("color:rgb(255 255 254)", GROUND),
        ("color:hsl(0, 0%, 99%)", GROUND),
        ("background:black;color:#020202", GROUND),
        ("background-color:rgba(0,0,0,0);color:white", GROUND),
        ("position:absolute;left:-9999px", "off the page"),
        ("position:fixed;top:-100em", "off the page"),
        ("position:absolute;right:-9999px", "off the page"),
        ("margin-left:-9999px", "off the page"),
        ("text-indent:-9999px", "off the page"),
        ("transform:translateX(-9999px)", "off the page"),
        ("transform:scale(0)", "off the page"),
        ("position:absolute;clip:rect(0,0,0,0)", "clipped away"),
        ("clip-path:inset(50%)", "clipped away"),
        ("opacity:calc(1 - 1)", "transparent"),
        ("opacity:0.06", "transparent"),
        ("font-size:2px", "tiny"),
        ("font-size:calc(1px * 0)", "tiny"),
        ("font-size:min(0px, 1em)", "tiny"),
        ("font-size:clamp(0px, 0.1vw, 1px)", "tiny"),
        ("font:0/0 a", "tiny"),
        ("-webkit-text-fill-color:transparent", "transparent"),
        ("-webkit-text-fill-color:#fff", GROUND),
        ("color:lab(100% 0 0)", GROUND),
        ("color:oklch(1 0 0)", GROUND),
        ("color:Canvas", GROUND),
        ("filter:blur(40px)", "invisible"),
        ("filter:contrast(0)", "invisible"),
        ("position:absolute;left:calc(-100vw - 999px)", "off the page"),
        ("position:absolute;left:-1000%", "off the page"),
        ("position:absolute;left:9999px", "off the page"),
        ("position:absolute;inset:auto auto auto -9999px", "off the page"),
        ("position:absolute;inset-inline-start:-9999px", "off the page"),
        ("margin:0 0 0 -9999px", "off the page"),
        ("margin:-9999px", "off the page"),
        ("margin-inline-start:-9999px", "off the page"),
        ("text-indent:100%;white-space:nowrap;overflow:hidden", "off the page"),
        ("text-indent:9999px;overflow:hidden", "off the page"),
        ("translate:-9999px 0", "off the page"),
        ("transform:translateX(-200vw)", "off the page"),
        ("transform:scale(0.001)", "off the page"),
        ("transform:rotateX(90deg)", "off the page"),
        ("scale:0", "off the page"),
        ("zoom:0.001", "off the page"),
        ("-webkit-clip-path:inset(100%)", "clipped away"),
        ("clip-path:inset(0 100% 0 0)", "clipped away"),
        ("clip-path:inset(0 50%)", "clipped away"),
        ("clip-path:ellipse(0 0)", "clipped away"),
        ("position:absolute;clip:rect(9px,9px,9px,9px)", "clipped away"),
        ("height:0;overflow:auto", "clipped away"),
        ("block-size:0;overflow:hidden", "clipped away"),
        ("line-height:0;overflow:hidden", "clipped away"),
        ("height:0;overflow:hidden", "clipped away"),
        ("width:1px;height:1px;overflow:hidden", "clipped away"),
    ],
)
@pytest.mark.parametrize("by", ["style", "class", "id", "tag", "media"])
def test_hidden_text_is_left_out_and_counted(style: str, reason: str, by: str) -> None:
    attribute, css = {
        "style": (f'style="{style}"', ""),
        "class": ('class="a x"', f".x {{ {style} }}"),
        "id": ("id=x", f"div #x {{ {style} }}"),
        "tag": ("", f"p + p {{ {style} }}"),
        "media": ('class="x"', f"@media screen and (min-width: 600px) {{ .x {{ {style} }} }}"),
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
        ('<font color="#ffffff">hidden words</font>', ""),
        ('<p class="x">hidden words</p>', "body { background: #123 } .x { color: #123 }"),
        ('<p class="x">hidden words</p>', ".x { color: black } p.x { color: white }"),
        ('<table><tr><td bgcolor="ff0000"><font color="ff0000">hidden words</font></table>', ""),
        ("<div popover>hidden words</div>", ""),
        ('<p class="x">hidden words</p>', ":root { --on: white } .x { color: var(--on) }"),
        ('<p class="x">hidden words</p>', ".x { --d: none; display: var(--d) }"),
        ('<p class="x">hidden words</p>', ".x { opacity: var(--unset, 0) }"),
        ('<div class="o"><p class="x">hidden words</p></div>', ".o { & .x { display: none } }"),
        ('<div class="o"><p class="x">hidden words</p></div>', ".o { top: 0; .x { opacity: 0 } }"),
        ('<p class="x">hidden words</p>', "@media not print { .x { display: none } }"),
        ('<p class="x">hidden words</p>', "@media (width >= 1px) { .x { display: none } }"),
        ('<p class="x">hidden words</p>', "@media (hover: hover) { .x { display: none } }"),
        (
            '<p class="x">hidden words</p>',
            "@media (prefers-color-scheme: light) { .x { display: none } }",
        ),
        ('<p class="x">hidden words</p>', "@import url('data:text/css,.x{display:none}');"),
        (
            '<link rel="stylesheet" href="data:text/css;base64,LnF7ZGlzcGxheTpub25lfQ==">'
            '<p class="q">hidden words</p>',
            "",
        ),
        ('<div style="opacity:.2"><p style="opacity:.2">hidden words</p></div>', ""),
    ],
)
def test_old_attributes_and_inherited_styles_count(body: str, css: str) -> None:
    document = parse_here(page(f"<p style='color:orange'>Seen.</p>{body}", css), "a.html")
    assert (document.text, document.findings[0].count) == ("Seen.", N_HIDDEN)


@pytest.mark.parametrize(
    ("style", "css"),
    [
        ("color:white;background:navy", ""),
        ("color:white;background:url(night.png)", ""),
        ("color:white;background:linear-gradient(red, blue)", ""),
        ("color:white", "body { background: #222 }"),
        ("color:white", "body { background: var(--dark) }"),
        ("color:#ccc", ""),
        ("color:transparent;background:linear-gradient(red, blue);background-clip:text", ""),
        ("opacity:.5", ""),
        ("display:block", "p { display: none }"),
        ("visibility:visible", "body { visibility: hidden } h1 { visibility: visible }"),
        ("font-size:12px", "body { font-size: 0 } h1 { font-size: 20px }"),
        ("position:relative;left:-5px", ""),
        ("height:0", ""),
        ("margin:0 auto", ""),
        ("text-indent:2em;overflow:hidden", ""),
        ("position:relative;left:50%;transform:translateX(-50%)", ""),
        ("transform:scale(0.9)", ""),
        ("font-size:calc(1rem + 1vw)", ""),
        ("font-size:clamp(1rem, 2vw, 3rem)", ""),
        ("font-size:var(--unset)", ""),
        ("line-height:1.2;overflow:hidden", ""),
        ("clip-path:inset(0 10%)", ""),
        ("filter:blur(0.5px)", ""),
        ("color:var(--a)", "p { --a: var(--b); --b: var(--a) }"),
        ("", "@media (width < 600px) { p { display: none } }"),
        ("", "@media (prefers-color-scheme: dark) { p { display: none } }"),
        ("", "@import 'https://example.org/a.css'; h1 { & .x { display: none } }"),
        ("", "@media print { p { display: none } }"),
        ("", "@media (max-width: 600px) { p { display: none } }"),
        ("", "p:hover, p::before { display: none }"),
        ("", "p:no-such-thing { display: none } p { color: rebeccapurple }"),
        ("", "p { display: none } p { display: block }"),
        ("", "{ p }}} @@ ;"),
    ],
)
def test_text_that_can_be_seen_stays(style: str, css: str) -> None:
    document = parse_here(page(f'<h1>Seen.</h1><p style="{style}">shown words</p>', css), "a.html")
    assert (document.text, document.findings) == ("Seen.\n\nshown words", ())


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


def test_style_sheets_of_a_book_count_where_they_are_for_a_screen() -> None:
    link = '<link rel="stylesheet" media="print" href="../look.css"/>'
    chapter = f'<html><head>{link}</head><body><p class="x">Seen.</p></body></html>'
    assert parse_here(make_book(chapter, ".x { display: none }"), "a.epub").text == "Seen."


@pytest.mark.parametrize("digits", [5, 10, 5000])
def test_a_list_may_begin_with_any_number(digits: int) -> None:
    document = parse_here(page(f'<ol start="{"9" * digits}"><li>Item</li></ol>'), "a.html")
    assert document.text == f"{'99999' if digits == 5 else '1'}. Item"
