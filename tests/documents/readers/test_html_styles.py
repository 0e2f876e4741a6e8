"""Styles count as browsers count them: what they do not understand is as if it were not there."""

import pytest

from tests.documents.samples import parse_here


def read(
    css: str, style: str = "", *, attributes: str = "", doctype: str = "<!doctype html>"
) -> str:
    """The text of a page whose second paragraph is styled."""
    data = (
        f"{doctype}<html><head><style>{css}</style></head><body><p>Seen.</p>"
        f'<p class="x" id="y" style="{style}" {attributes}>more words</p></body></html>'
    )
    return parse_here(data.encode(), "a.html").text


def is_hidden(css: str, style: str = "", **more: str) -> bool:
    text = read(css, style, **more)
    assert text in ("Seen.", "Seen.\n\nmore words")
    return text == "Seen."


@pytest.mark.parametrize(
    "style",
    [
        "display:none;display:x",
        "display:none;display:",
        "display:none;display:block block block block",
        "display:none;display:none none",
        "display:none;display:block inline",
        "color:white;color:color-mix(in x, black, black)",
        "clip-path:inset(100%);clip-path:inset()",
        "position:absolute;clip:rect(0,0,0,0);clip:rect(1)",
        "filter:opacity(0);filter:blur(-5px)",
        "opacity:0;opacity:x",
        "opacity:0;opacity:1px",
        "opacity:0;opacity:calc(1px)",
        "font-size:0;font-size:x",
        "font-size:0;font-size:12",
        "font-size:0;font-size:-12px",
        "font-size:0;font-size:12px 12px",
        "font-size:0;font:12px",
        "font-size:0;font:bold serif",
        "font-size:16px;font:0 serif",
        "color:white;color:x",
        "color:white;color:rgb(0 0)",
        "color:white;color:light-dark(black)",
        "visibility:hidden;visibility:x",
        "position:absolute;left:-9999px;left:9",
        "position:absolute;left:-9999px;position:x",
        "transform:scale(0);transform:scale(x)",
        "transform:scale(0);transform:translate(5)",
        "transform:scale(0);transform:x(1)",
        "transform:scale(0);transform:scale()",
        "transform:scale(0);transform:rotate(1e999deg) scale(0)",
        "clip-path:inset(100%);clip-path:x(0)",
        "filter:opacity(0);filter:opacity(1px)",
        "height:0;overflow:hidden;height:-9px",
        "height:0;overflow:hidden;overflow:x",
        "color:white;background:black black",
        "color:white;background:linear-gradient(x)",
        "color:white;background-image:linear-gradient(to left)",
        "background:black;color:white;background-color:transparent;background:white",
        "--n:none;display:var(--n)",
        "--N:none;--n:block;display:var(--N)",
        "--n:initial;display:var(--n, none)",
        "display:var(--m, var(--n, none))",
        "font-size:var(--m, calc(0px))",
        "font-size:env(m, 0px)",
    ],
)
def test_a_value_that_browsers_do_not_take_undoes_nothing(style: str) -> None:
    assert is_hidden("", style)
    assert is_hidden(f".x {{ {style} }}")


def test_a_value_that_browsers_do_not_take_shows_no_hidden_element() -> None:
    assert is_hidden("", "display:x", attributes="hidden")
    assert is_hidden("", "display:revert", attributes="hidden")
    assert not is_hidden("", "display:flex", attributes="hidden")


@pytest.mark.parametrize(
    "style",
    [
        "display:none;display:-webkit-flex",
        "display:none;display:inline flow-root",
        "display:none;display:inherit",
        "display:none;display:var(--unset)",
        "display:none;all:unset",
        "opacity:0;opacity:100%",
        "opacity:0;opacity:max(.5, 1)",
        "font-size:0;font-size:larger",
        "font-size:0;font-size:calc(1vw + 50%)",
        "font-size:0;font:bold 12px/1.5 'Some Face', serif",
        "font-size:0;font:caption",
        "color:white;color:color-mix(in srgb, red 20%, blue)",
        "color:white;color:color(srgb 0 0 0)",
        "color:white;color:rgb(calc(0) 0 0)",
        "color:white;color:initial",
        "color:white;background:no-repeat center / cover black",
        "color:white;background:linear-gradient(to right, navy 10%, black)",
        "color:white;background:white;background-color:black",
        "visibility:hidden;visibility:initial",
        "position:absolute;left:-9999px;left:anchor(right)",
        "transform:scale(0);transform:none",
        "transform:scale(0);transform:translate(5px, 10%) rotate(3deg)",
        "clip-path:inset(100%);clip-path:circle(60% at center)",
        "filter:opacity(0);filter:drop-shadow(0 0 2px red)",
        "height:0;overflow:hidden;height:fit-content",
    ],
)
def test_a_later_value_that_browsers_take_holds(style: str) -> None:
    assert not is_hidden("", style)
    assert not is_hidden(f".x {{ {style} }}")
