"""Twice as large a document takes about twice the time, whatever it is full of."""

from collections.abc import Callable

import pytest

from d2l.readers.styles import read_inline, read_sheets
from tests.documents.samples import CONTAINER, make_zip, parse_here
from tests.sized import assert_linear


def test_what_is_quadratic_is_seen() -> None:
    assert_linear(bytes, lambda data: sum(range(100 * len(data))))
    with pytest.raises(AssertionError, match="times as long"):
        assert_linear(bytes, lambda data: sum(range(len(data) ** 2)), seconds=0.005)


def repeat(one: str, before: str = "", after: str = "") -> Callable[[int], str]:
    """`one` n times; `{k}` in it is its number."""
    return lambda n: before + "".join(one.replace("{k}", str(k)) for k in range(n)) + after


def nest(start: str, end: str, before: str = "", inner: str = "word") -> Callable[[int], str]:
    """Piles of 40 elements in each other."""
    pile = start * 40 + inner + end * 40
    return lambda n: before + pile * (n // 40)


def rule(css: str, one: str = "<p>word</p>", share: int = 10) -> Callable[[int], str]:
    """Elements, and a share of as many rules."""
    rules = repeat(css)
    return lambda n: f"<style>{rules(max(1, n // share))}</style>{repeat(one)(n)}"


DEEP = f"<style>nav {'div ' * 8}p{{color:red}} nav > {'div > ' * 8}p{{color:red}}</style>"
PAGES = {
    "many descendants, and none fits": nest("<div>", "</div>", DEEP, "<p>word</p>"),
    "last of type": rule("p:nth-last-of-type({k}n){color:red}"),
    "not": rule("* > *:not(.c{k}){color:red}"),
    "any children": rule("* > * ~ *{color:red}"),
    "siblings": rule("p ~ p.c{k} ~ p{color:red}"),
    "next siblings": rule("p + p + .c{k}{color:red}", "<p class=c{k}>word</p>", 3),
    "descendants": rule(".a .b{k} p{left:0}", "<div class=a><i class=b{k}><p>word</p></i></div>"),
    "ids": rule("#i{k}{color:red}", "<p id=i{k}>word</p>", 1),
    "values of attributes": rule("[data-a='{k}']{left:0}", "<p data-a={k}>word</p>", 1),
    "names of attributes": rule("[data-{k}]{left:0}", "<p data-{k}>word</p>", 1),
    "style elements": repeat("<style>.c{k}{color:red}</style><p class=c{k}>word</p>"),
    "declarations for many selectors": lambda n: (
        f"<style>{'.a,' * n}p{{{'left:1px;' * n}}}</style>word"
    ),
    "conditions in a rule": lambda n: (
        f"<style>{'.a,' * n}p{{{'@media x{left:0}' * n}}}</style>word"
    ),
    "styles": repeat("<p style='margin:{k}px'>word</p>"),
    "one style": repeat("left:{k}px;", "<p style='", "'>word"),
    "one class attribute": repeat("c{k} ", "<style>.c1{color:red}</style><p class='", "'>word"),
    "colors in colors": nest("<div style='color:#123;background:#fff'>", "</div>"),
    "hidden": repeat("<p>word</p><p hidden>hidden</p>"),
    "hidden parts": repeat("<b style='opacity:0'>hidden</b>word ", "<p>"),
    "positioned": repeat("<div style='position:absolute;background:#000'>word</div>"),
    "positioned in each other": nest("<div style='position:absolute'><img>", "</div>"),
    "drawings": repeat("word <svg><text>{k}</text></svg>"),
    "drawings in each other": nest("<i aria-hidden=true>", "</i>", "<p>word"),
    "buttons in a heading": repeat("<button>{k}</button>", "<h1>word", "</h1>"),
    "menus": repeat("<nav>a</nav>word "),
    "menus in each other": nest("<aside><nav>", "</nav></aside>", "word"),
    "header with parts": repeat("<div><i>{k}</i></div>", "<header><h1>word</h1>", "</header>"),
    "headers in each other": nest("<header><div>", "</div></header>", "<h1>word</h1>"),
    "asides with titles": repeat("<aside><div><h1>word</h1></div></aside>"),
    "asides in each other": nest("<aside>", "</aside>", inner="<h1>word</h1>"),
    "scripts": repeat("<script>x({k})</script>word "),
    "comments": repeat("<!-- {k} -->word "),
    "outside the main element": repeat("<p>word</p>", f"<main>{'word ' * 60}end</main>"),
    "unclosed": repeat("<p>word<li>word"),
    "without a body": repeat("<section>word</section>", "<title>x</title>"),
    "ends of pages": repeat("<p>word</body></html>"),
    "headings": repeat("<h2>word</h2><p>word"),
    "list": repeat("<li>word", "<ul>"),
    "lists in lists": nest("<ul><li>word", "</ul>"),
    "definitions": repeat("<dt>word<dd>word", "<dl>"),
    "rows": repeat("<tr><td>word<td>word", "<table>"),
    "one row": repeat("<td>word", "<table><tr>"),
    "cells that span": repeat("<tr><td rowspan=9>word<td colspan=9>word", "<table>"),
    "tables in tables": nest("<table><tr><td>word", "</table>"),
    "pieces of a line": repeat("word<b>word</b>"),
    "one long line": repeat("word "),
    "line ends": repeat("word<br>"),
    "entities": repeat("&amp;&eacute;&#233;"),
    "code": repeat("<b>word</b>\n", "<pre>"),
    "links": repeat("<a href=a>word</a> "),
    "raised numbers": repeat("10<sup>{k}</sup> "),
    "ruby": repeat("<ruby>word<rp>(</rp><rt>word</rt></ruby>"),
    "formulas": repeat("<math><mfrac><mi>a</mi><mi>b</mi></mfrac></math>"),
    "folds": repeat("<details><summary>word</summary>word</details>"),
}


def parse(data: bytes, name: str) -> None:
    """Read a document, and what its sheets and styles mean, anew."""
    read_sheets.cache_clear()
    read_inline.cache_clear()
    document = parse_here(data, name)
    assert document.text.endswith("end")
    assert not document.notes  # its style sheets were judged


@pytest.mark.parametrize("name", PAGES)
def test_twice_as_large_a_page(name: str) -> None:
    def make(n: int) -> bytes:
        return f"<!doctype html>{PAGES[name](n)}<p>end".encode()

    assert_linear(make, lambda data: parse(data, "a.html"))


def test_twice_as_large_a_book() -> None:
    chapter = "<head><link rel='stylesheet' href='a.css'/></head><p class='c1'>word</p><p>end</p>"
    item = "<item id='{k}' href='{k}.xhtml' media-type='application/xhtml+xml'/>"

    def make(n: int) -> bytes:
        items, refs = repeat(item)(n), repeat("<itemref idref='{k}'/>")(n)
        package = f"<package><manifest>{items}</manifest><spine>{refs}</spine></package>"
        sheet = {"OEBPS/a.css": repeat(".c{k}{color:#123}")(n).encode()}
        chapters = {f"OEBPS/{k}.xhtml": chapter.encode() for k in range(n)}
        files = {"META-INF/container.xml": CONTAINER.encode(), "OEBPS/book.opf": package.encode()}
        return make_zip(files | sheet | chapters)

    assert_linear(make, lambda data: parse(data, "a.epub"))
