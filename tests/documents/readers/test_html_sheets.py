"""Style sheets of a page count where a browser uses them on a screen, and nowhere else."""

import pytest

from tests.documents.samples import parse_here

HIDES = ".x{display:none}"
SHOWS = ".x{display:block!important}"


def is_hidden(
    css: str, *, head: str = "", doctype: str = "<!doctype html>", name: str = "x"
) -> bool:
    """Whether the second paragraph of a page is."""
    data = (
        f"{doctype}<html><head><style>{css}</style>{head}</head><body><p>Seen.</p>"
        f'<p class="{name}" id="y">more words</p></body></html>'
    )
    text = parse_here(data.encode(), "a.html").text
    assert text in ("Seen.", "Seen.\n\nmore words")
    return text == "Seen."


@pytest.mark.parametrize(
    "head",
    [
        "<style media=print>{}</style>",
        "<style media='(max-width: 9px)'>{}</style>",
        "<style type=text/x>{}</style>",
        "<noscript><style>{}</style></noscript>",
        "<template><style>{}</style></template>",
        "<link rel=stylesheet media=print href='data:text/css,{}'>",
        "<link rel=stylesheet disabled href='data:text/css,{}'>",
        "<link rel='alternate stylesheet' title=a href='data:text/css,{}'>",
        "<link rel=preload href='data:text/css,{}'>",
        "<style title=a></style><style title=b>{}</style>",
        "<style>@import 'data:text/css,{}' print;</style>",
        "<style>@import 'data:text/css,{}' supports(no-such: thing);</style>",
    ],
)
def test_a_sheet_that_is_not_used_neither_shows_nor_hides(head: str) -> None:
    assert is_hidden(HIDES, head=head.format(SHOWS))
    assert not is_hidden("", head=head.format(HIDES))


@pytest.mark.parametrize(
    "head",
    [
        "<style media=screen>{}</style>",
        "<style type='TEXT/CSS'>{}</style>",
        "<link rel='StyleSheet' title=a href='data:text/css,{}'>",
        "<style>@import 'data:text/css,{}' screen;</style>",
        "<style>@import url('data:text/css,{}') layer(a) supports(display: grid);</style>",
    ],
)
def test_a_sheet_that_is_used_hides(head: str) -> None:
    assert is_hidden("", head=head.format(HIDES))


HOLDING = [
    "@media (hover)",
    "@media (scripting)",
    "@media (color)",
    "@media (width)",
    "@media(min-width:0)",
    "@media (min-width:1cm)",
    "@media (min-width:calc(1px + 1em))",
    "@media (600px <= width <= 2000px)",
    "@media (2000px >= width)",
    "@media (min-resolution:1dpi)",
    "@media (-webkit-min-device-pixel-ratio:1)",
    "@media (min-aspect-ratio:1/10)",
    "@media not (max-width:1px)",
    "@media not all and (max-width:1px)",
    "@media not print",
    "@media (min-width:9999px) or (min-width:1px)",
    "@media ((hover) and (not (monochrome)))",
    "@media print, screen",
    "@media (prefers-contrast:no-preference)",
    "@media only screen and (pointer:fine)",
    "@supports (display:grid)",
    "@supports (not (display:x)) and (gap:1px)",
    "@supports selector(a > b)",
    "@layer a",
    "@scope (body)",
]
FAILING = [
    "@media print",
    "@media (hover:none)",
    "@media (no-such)",
    "@media not (no-such)",
    "@media (monochrome)",
    "@media (600px <= width <= 700px)",
    "@media (min-width:9cm) and (min-width:999cm)",
    "@media not all",
    "@media not screen and (min-width:1px)",
    "@media (prefers-reduced-motion)",
    "@media and",
    "@supports (no-such:thing)",
    "@supports not (display:grid)",
    "@supports (display:x)",
    "@supports selector(::no-such)",
    "@container (min-width:99999px)",
    "@container (min-width:0)",  # for there is none
    "@scope (.q)",
    "@keyframes a",
]


@pytest.mark.parametrize("condition", HOLDING)
def test_rules_count_where_their_condition_holds(condition: str) -> None:
    assert is_hidden(f"{condition} {{ {HIDES} }}")
    assert not is_hidden(f"{HIDES} {condition} {{ {SHOWS} }}")
    if "scope" not in condition:
        assert is_hidden(f".x {{ {condition} {{ display: none }} }}")


@pytest.mark.parametrize("condition", FAILING)
def test_rules_do_not_count_where_their_condition_fails(condition: str) -> None:
    assert not is_hidden(f"{condition} {{ {HIDES} }}")
    assert is_hidden(f"{HIDES} {condition} {{ {SHOWS} }}")


def test_a_container_counts_where_there_is_one() -> None:
    container = "body { container-type: inline-size }"
    assert is_hidden(f"{container} @container (min-width: 9px) {{ {HIDES} }}")
    assert not is_hidden(f"{container} @container name (max-width: 9px) {{ {HIDES} }}")


@pytest.mark.parametrize(
    "css",
    [
        ".x,.z{&{display:none}}",
        "body,main{.x{display:none}}",
        "body{:is(p,span).x{display:none}}",
        "body{p{&.x{display:none}}}",
        ".x{body &{display:none}}",
        "body{@media screen{.x{display:none}}}",
        "@scope (body){:scope .x{display:none}}",
        "@scope (.x){:scope{display:none}}",
        "@layer a{p.x#y{display:block}} .x{display:none}",
        "@layer a{.x{display:none!important}} p#y.x{display:block!important}",
        "@layer a,b; @layer b{.x{display:none}} @layer a{p#y{display:block}}",
        "@layer a{.x{display:none}} @layer a.b{p#y{display:block}}",
        "p.x:defined{display:none}",
        ".x,p::-webkit-scrollbar{display:none}",
        "p.x:not(:modal){display:none}",
        "@property --s{syntax:'<length>';inherits:false;initial-value:0px}.x{font-size:var(--s)}",
    ],
)
def test_nested_and_layered_rules_hide(css: str) -> None:
    assert is_hidden(css)


@pytest.mark.parametrize(
    "css",
    [
        ".z,.w{&{display:none}}",
        ".z{.x{display:none}}",
        "@layer a{.x{display:none}} .x{display:block}",
        "@layer a{p#y{display:none}} @layer b{.x{display:block}}",
        "p.x:modal{display:none}",
        ".x,p::no-such{display:none}",
    ],
)
def test_rules_that_do_not_count_hide_nothing(css: str) -> None:
    assert not is_hidden(css)


@pytest.mark.parametrize(
    "css",
    [
        ".X{display:none}",
        "#Y{display:none}",
        "p:not(.Z){display:none}body p:first-child{display:block}",
        ".x{position:absolute;left:-9999}",
        ".x{margin:0 0 0 -9999}",
        ".x{font-size:0;font-size:1}",
        ".x{color:ffffff}",
    ],
)
def test_pages_without_a_doctype_are_read_as_of_old(css: str) -> None:
    old = '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">'
    assert is_hidden(css, doctype="")
    assert is_hidden(css, doctype=old)


def test_pages_with_a_doctype_are_not_read_as_of_old() -> None:
    for css in (".X{display:none}", ".x{position:absolute;left:-9999}", ".x{color:ffffff}"):
        assert not is_hidden(css)


@pytest.mark.parametrize("tag", ["noembed", "meter", "progress", "annotation-xml"])
def test_what_stands_in_place_of_other_things_is_not_read(tag: str) -> None:
    data = f"<!doctype html><p>Seen.</p><div><{tag}>more words</{tag}></div>"
    assert parse_here(data.encode(), "a.html").text == "Seen."
