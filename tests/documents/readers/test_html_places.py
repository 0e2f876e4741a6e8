"""Text that styles move away, make small, cut or paint over is left out, and other text stays."""

import pytest

from tests.documents.samples import parse_here

ABSOLUTE = "position:absolute;"


def is_hidden(body: str, css: str = "") -> bool:
    """Whether the words after the first paragraph are."""
    data = (
        f"<!doctype html><html><head><style>{css}</style></head><body><p>Seen.</p>{body}"
        "</body></html>"
    )
    text = parse_here(data.encode(), "a.html").text
    assert text in ("Seen.", "Seen.\n\nmore words")
    return text == "Seen."


@pytest.mark.parametrize(
    "style",
    [
        "font-size:1e-3px",
        "font-size:0.00000000001px",
        "font-size:round(down, 0.4px, 1px)",
        "font-size:calc(sin(0) * 1px)",
        "font:1e-3px serif",
        "opacity:1e-9",
        "opacity:-1",
        "opacity:+0",
        f"{ABSOLUTE}right:9999px",
        f"{ABSOLUTE}bottom:9999px",
        f"{ABSOLUTE}left:-110%",
        f"{ABSOLUTE}top:-100%",
        f"{ABSOLUTE}right:100%",
        f"{ABSOLUTE}inset-inline:-9999px auto",
        f"{ABSOLUTE}inset:0 9999px auto auto",
        "position:relative;right:9999px",
        "position:relative;left:9999px",
        "position:fixed;top:100vh",
        "position:fixed;left:2000px",
        "margin-inline:-9999px",
        "margin-block:-9999px",
        "margin-left:-1e4px",
        "margin-left:9999px",
        "padding-left:99999px",
        "float:left;margin-left:-9999px",
        "text-indent:-100%",
        "text-indent:99999px",
        "transform:translateX(-999px)",
        "transform:translateY(-900px)",
        "transform:translateX(-100vw)",
        "transform:translateX(-200em)",
        "transform:translateX(9999rem)",
        "transform:translateX(-300px) translateX(-300px)",
        "transform:scale(10) translateX(-60px)",
        "transform:scale(1, 0)",
        "transform:scale(0%)",
        "transform:scale3d(1, 0, 1)",
        "transform:skewX(90deg)",
        "transform:rotateX(.25turn)",
        "transform:matrix(.001, 0, 0, .001, 0, 0)",
        "transform:matrix(1, 0, 0, 1, -9999, 0)",
        "transform:matrix3d(0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1)",
        "rotate:x 90deg",
        "clip-path:polygon(50% 50%, 50% 50%, 50% 50%)",
        "clip-path:polygon(0 0)",
        "clip-path:polygon(0px 0px, 1px 0px, 0px 1px)",
        "clip-path:path('M0 0')",
        "clip-path:xywh(0 0 0 0)",
        "clip-path:circle(1px)",
        "clip-path:inset(500px)",
        f"{ABSOLUTE}clip:rect(auto, 0, auto, auto)",
        "height:2px;overflow:hidden",
        "height:0;contain:paint",
        "contain:strict",
        "height:20px;overflow:hidden;line-height:200px",
        "height:20px;overflow:hidden;padding-top:20px;box-sizing:border-box",
        "display:table-column",
        "filter:blur(1em)",
        "color:color-mix(in srgb, white, white)",
        "color:rgb(from white r g b)",
        "color:rgb(from black r g b / 0)",
        "color:light-dark(white, black)",
        "color:color(display-p3 1 1 1)",
        "color:white;background:linear-gradient(white, white)",
        "color:white;background:linear-gradient(to left, #fff 0, rgb(255 255 255) 9%)",
        "color:transparent;background-clip:text",
        "color:transparent;background:white;background-clip:text",
    ],
)
def test_usual_ways_to_hide(style: str) -> None:
    style = style.replace("'", "&apos;")
    assert is_hidden(f"<p style='{style}'>more words</p>")


@pytest.mark.parametrize(
    "style",
    [
        f"{ABSOLUTE}left:50%;width:1200px;margin-left:-600px",
        f"{ABSOLUTE}left:800px;transform:translateX(-700px)",
        f"{ABSOLUTE}top:9000px",
        f"{ABSOLUTE}right:40%;bottom:10px",
        "position:fixed;bottom:0;left:0",
        "float:left;margin-left:-960px",
        "margin:0 -9999px;padding:0 9999px",
        "transform:rotate(90deg)",
        "transform:rotate(-180deg) translate(-50%, -50%)",
        "transform:scale(-1, 1)",
        "transform:matrix(.25, 0, 0, .25, 0, 0)",
        "transform:scale(4)",
        "clip-path:inset(0 0 10% 20px)",
        "clip-path:polygon(0 0, 100% 0, 100% 80%, 0 100%)",
        "clip-path:circle(40% at 50% 50%)",
        "clip-path:path('M0 0 L100 0 L100 100 Z')",
        f"{ABSOLUTE}clip:rect(0, 100px, 50px, 0)",
        f"{ABSOLUTE}clip:auto",
        "height:0;overflow:hidden;padding-bottom:56.25%",
        "height:30px;line-height:30px;overflow:hidden",
        "max-width:60em;overflow:auto",
        "filter:brightness(1.2) blur(.1em)",
        "color:color-mix(in srgb, navy, black)",
        "color:transparent;background:navy;background-clip:text",
        "color:white;background:linear-gradient(white, black)",
        "display:contents;opacity:0;transform:scale(0)",
        "height:0;min-height:3em;overflow:hidden",
        "width:1px;min-width:100%;overflow:hidden",
    ],
)
def test_usual_ways_to_lay_out(style: str) -> None:
    style = style.replace("'", "&apos;")
    assert not is_hidden(f"<p style='{style}'>more words</p>")


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (f"{ABSOLUTE}left:-300px", f"{ABSOLUTE}left:-300px"),
        ("position:relative;left:-300px", "position:relative;left:-300px"),
        ("transform:translateX(-300px)", "position:relative;left:-300px"),
        ("transform:scale(.2)", "transform:scale(.2)"),
        ("-webkit-text-fill-color:transparent", "color:#000"),
        ("display:contents;background:#000", "color:#fff"),
        ("visibility:hidden;background:#000", "visibility:visible;color:#fff"),
        ("background:#000;width:0;height:0", "color:#fff"),
        ("position:relative", f"{ABSOLUTE}left:-300%"),
        ("text-indent:-9999px", "text-indent:inherit"),
    ],
)
def test_what_is_around_counts(outer: str, inner: str) -> None:
    assert is_hidden(f"<div style='{outer}'><p style='{inner}'>more words</p></div>")


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (f"{ABSOLUTE}left:600px", f"{ABSOLUTE}left:-550px"),
        ("transform:scale(.2)", "transform:scale(5)"),
        ("text-indent:-9999px", "text-indent:initial"),
        ("-webkit-text-fill-color:transparent", "-webkit-text-fill-color:navy"),
        ("position:relative", f"{ABSOLUTE}left:-110%"),
        ("position:relative", f"{ABSOLUTE}bottom:1034px"),
        ("background:#000;height:0;padding-bottom:50%", "color:#fff"),
        ("background:#000;width:0;min-width:100%", "color:#fff"),
        ("background:url(a.png)", "color:transparent;background:url(b.png) text"),
    ],
)
def test_what_is_around_hides_nothing(outer: str, inner: str) -> None:
    assert not is_hidden(f"<div style='{outer}'><p style='{inner}'>more words</p></div>")


def test_cells_of_tables_grow_with_their_text() -> None:
    cell = "max-width:0;overflow:hidden;white-space:nowrap"
    assert not is_hidden(f"<table><tr><td style='{cell}'>more words</td></tr></table>")


def test_a_row_of_slides_stays_when_it_is_moved() -> None:
    row = "width:5000px;transform:translate3d(-1140px, 0px, 0px)"
    assert not is_hidden(f"<div style='{row}'><div></div><div>more words</div></div>")
    assert is_hidden(f"<p style='{row}'>more words</p>")


def test_a_page_that_is_dark_by_itself_has_a_dark_ground() -> None:
    assert is_hidden("<p style='color:#111'>more words</p>", ":root { color-scheme: dark }")
    assert not is_hidden("<p style='color:#fff'>more words</p>", "html { color-scheme: dark }")
    assert not is_hidden(
        "<p style='color:#111'>more words</p>", ":root { color-scheme: light dark }"
    )
