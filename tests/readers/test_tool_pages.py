"""Pages as documentation tools write them: each paragraph of the article is kept, and menus go.

In `tool_pages.txt` words with `kept` stand in the article; words with `zq` stand in menus, banners
and page ends.
"""

import re
from pathlib import Path

import pytest

from tests.documents.samples import parse_here

PAGES = Path(__file__).parents[1] / "data" / "tool_pages.txt"
TEXTS = PAGES.read_text("utf-8").removeprefix("=== ").split("\n=== ")
NAMED = {name: page for name, _, page in (text.partition("\n") for text in TEXTS)}
SENTENCE = "Set the valve to 3.7 bar before you open the lid, and never leave the pump unattended."
LINKS = "".join(f"<li><a href={n}.html>Chapter number {n}</a></li>" for n in range(9))


@pytest.mark.parametrize("name", NAMED)
def test_the_article_is_kept_and_menus_go(name: str) -> None:
    document = parse_here(NAMED[name].encode(), "a.html")
    words = set(re.findall(r"kept\w*", NAMED[name]))
    assert len(words) > 1
    assert words == set(re.findall(r"kept\w*", document.text))
    assert re.findall(r"zq\w*", document.text) == []
    assert not [finding for finding in document.findings if finding.kind == "dropped"]


def test_there_are_twenty_tools() -> None:
    assert len(NAMED) == 20


BOXES = (
    "div class=sidebar", "aside", "aside class=note", "div class=toc", "header", "footer", "nav",
    "div role=complementary",
)  # fmt: skip


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("around", ["article", "main", "div"])
def test_boxes_of_text_stay(box: str, around: str) -> None:
    filler = "<p>" + "The pump is rinsed every day. " * 10
    body = f"<{around}><h1>Pump</h1>{filler}<{box}><p>{SENTENCE}</p></{box.split()[0]}></{around}>"
    document = parse_here(f"<!doctype html><body>{body}".encode(), "a.html")
    assert document.text.count(SENTENCE) == 1
    assert document.remarks == document.findings == ()


@pytest.mark.parametrize("box", BOXES)
def test_lists_of_links_go_and_are_counted(box: str) -> None:
    body = f"<h1>Pump</h1><p>{SENTENCE}</p><{box}><ul>{LINKS}</ul></{box.split()[0]}>"
    document = parse_here(f"<!doctype html><body>{body}".encode(), "a.html")
    assert document.text == f"Pump\n\n{SENTENCE}"
    n_chars = len(" ".join(f"Chapter number {n}" for n in range(9)))
    assert document.remarks == (f"{n_chars} characters of menus and page furniture left out",)
    (finding,) = document.findings
    assert (finding.kind, finding.count) == ("furniture", n_chars)
    assert finding.what == "Chapter number 0 Chapter number 1 Chapter number …"


COOKIES = "This site uses cookies to make it better. By staying you agree to our cookies."
FURNITURE = (
    f"<div id=onetrust-consent-sdk><h2>Privacy</h2>{SENTENCE}<button>Accept</button></div>",
    f"<div class=b><p>{COOKIES}</p><button>Accept all</button></div>",
    f"<div><p>{COOKIES} <a href=m>Learn more</a> <a href=#>OK</a></p></div>",
    "<div class=signup><h3>Sign up for our newsletter</h3><button>Subscribe</button></div>",
    "<div><a href=x>Share on X</a> <a href=f>Share on Facebook</a></div>",
    "<div class=nav-bar><table><tr><td><a href=m>man7.org</a> &gt; Linux</table></div>",
    "<a href=#t><span class=top-link>top</span></a>", "<h3><a href=#t>◆ </a></h3>",
    "<div>Advertisement</div>", "<a href=#c>Skip to content</a>",
    "<p><a href=e>Edit this page</a></p>",
    "<form><fieldset><legend>Was this page helpful?</legend></fieldset></form>",
    "<div>Last updated on <time>May 3, 2026</time></div>", "<p>Last modified: 2026-03-03 10:00</p>",
    "<div class=on-this-page><p>On this page</p><ul><li><a href=#s>Sieve</a></li></ul></div>",
    "<ol id=breadcrumbs><li><a href=t>Tollin</a></li><li><a href=m>Manuals</a></li></ol>",
)  # fmt: skip


@pytest.mark.parametrize("piece", FURNITURE)
@pytest.mark.parametrize("around", ["article", "div"])
def test_lines_of_every_page_go_and_are_counted(piece: str, around: str) -> None:
    filler = "The pump is rinsed every day. " * 10
    body = f"<{around}><h1>Pump</h1><p>{filler}</p>{piece}</{around}>"
    document = parse_here(f"<!doctype html><body>{body}".encode(), "a.html")
    assert document.text == f"Pump\n\n{filler.strip()}"
    assert {finding.kind for finding in document.findings} == {"furniture"}
    assert "page furniture left out" in document.remarks[0]


PROSE = (
    "<p>We use cookies to keep you signed in.</p>",
    f"<div><p>{COOKIES}</p><p>{SENTENCE}</p><a href=#>OK</a></div>",
    "<h2>Advertisement</h2><p>The pump sends it twice.</p>",
    "<ul><li><p>Advertisement</p></li></ul>",
    "<table><tr><td><p>Advertisement</p></td></tr></table>",
    "<p><b>Tip:</b> tap <a href=x>Share on X</a></p>", "<p>Was this page helpful? Tell Ida.</p>",
    "<p>Sign up for our newsletter. It has the dates of repair.</p>",
    "<p>The pump was last updated on May 3.</p>", "<h2 id=breadcrumbs>Breadcrumbs</h2>",
    "<p>The value of <a href=#v>x^2</a> is 4.</p>",
)  # fmt: skip


@pytest.mark.parametrize("piece", PROSE)
def test_prose_that_looks_like_such_lines_stays(piece: str) -> None:
    document = parse_here(
        f"<!doctype html><body><h1>Pump</h1><p>Dry.</p>{piece}".encode(), "a.html"
    )
    words = re.sub("<[^>]*>", " ", piece).split()
    assert [word for word in document.text.split() if word not in "-|"] == ["Pump", "Dry.", *words]
    assert document.findings == ()


def test_prose_beside_the_main_text_is_told() -> None:
    main = f"<main><h1>Pump</h1><p>{'The pump is rinsed every day. ' * 10}</main>"
    body = f"<!doctype html><body>{main}<div><p>{SENTENCE}</p></div><div>Imprint</div>"
    document = parse_here(body.encode(), "a.html")
    dropped, furniture = document.findings
    assert document.remarks[0].startswith(f"{furniture.count} characters of menus")
    assert (dropped.kind, dropped.count) == ("dropped", len(SENTENCE))
    assert dropped.what == "Set the valve to 3.7 bar before you …"
    assert (furniture.kind, furniture.what) == ("furniture", "Imprint")
