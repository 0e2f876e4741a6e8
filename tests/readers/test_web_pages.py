"""The words of web pages as a browser shows them: kept, or left out and counted, and none lost.

In `web_pages.txt` words that begin with `zq` are hidden. Those with `yq` are kept although the
browser does not give them: they are hidden by what `.github/SECURITY.md` lists, or shown by a
shadow tree. Pages with drawn rules have neither: browser and reader agree on each word.
"""

import html
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from d2l.readers import html as reader
from d2l.readers.html_furniture import NOT_SHOWN
from tests.browser import open_browser
from tests.documents.samples import DOCS, parse_here

PAGES = Path(__file__).parents[1] / "data" / "web_pages.txt"
SHARED = (DOCS / "wikipedia-page.html", DOCS.parent / "data/manuals/mnt-reform-handbook.html")
#: What is shown in each frame; blocks end words, also where a style shows them in a line.
COLLECT = f"""
return [...document.querySelectorAll('iframe')].map(frame => {{
  const body = frame.contentDocument.body;
  body.querySelectorAll('{", ".join(sorted(reader.BLOCKS))}, td').forEach(e => e.after('\\u200b'));
  return body.innerText;
}});
"""


def split(text: str) -> Counter[str]:
    """The words of a text; a raised number is written with ^."""
    plain = unicodedata.normalize("NFKC", text).replace("^", "")
    return Counter(re.findall(r"\w+", plain.casefold()))


def count(words: Counter[str]) -> int:
    """Characters of words."""
    return sum(len(word) * n for word, n in words.items())


SHOWN = "style='display:block!important;visibility:visible!important'"
TAGS = ("div", "section", "b", "i")
MARKS = ("class=a", "class='b c'", "class='a b'", "id=x", "k=v", "k='v w'", "k=v-w", "m", "")
COMPOUNDS = (
    *TAGS, "*", ".a", ".b", ".b.c", "div.a", "#x", "[k]", "[k=v]", "[k~=w]", "[k|=v]", "[k^=v]",
    "[k$=w]", "[k*='-']", "[m]", "b:first-child", ".a:last-child", "i:only-child", ":root",
)  # fmt: skip
EFFECTS = ("display:none", "display:block", "visibility:hidden", "visibility:visible")


def write_styled_page(seed: int) -> str:
    """A page of elements in each other, some of which its rules hide."""
    draw = random.Random(seed)

    def select() -> str:
        words = [draw.choice(COMPOUNDS)]
        for _ in range(draw.choice((0, 0, 1, 1, 2, 3))):
            words += (draw.choice((" ", " > ", " + ", " ~ ")), draw.choice(COMPOUNDS))
        return "".join(words)

    def nest(depth: int) -> str:
        tag, mark = draw.choice(TAGS[2 * (depth > 2) :]), draw.choice(MARKS)
        inner = "".join(nest(depth + 1) for _ in range(draw.randrange(4))) if depth < 5 else ""
        return f"<{tag} {mark}>;w{draw.randrange(999)};{inner}</{tag}>;w{draw.randrange(999)};"

    rules = (
        f"{select()},{select()}{{{draw.choice(EFFECTS)}{draw.choice(('', '', '!important'))}}}"
        for _ in range(12)
    )
    body = "".join(nest(0) for _ in range(3))
    return f"<html {SHOWN}><style>{''.join(rules)}</style><body {SHOWN}>{body}<p {SHOWN}>end"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Counter[str]]]:
    """Pages by name, and the words that a browser shows of each; all are in frames of one page."""
    texts = PAGES.read_text("utf-8").removeprefix("=== ").split("\n=== ")
    pages = {name: page for name, _, page in (text.partition("\n") for text in texts)}
    assert len(pages) > 50
    pages |= {f"styled {seed}": write_styled_page(seed) for seed in range(20)}
    pages |= {path.name: path.read_text("utf-8") for path in SHARED if path.exists()}
    frames = (
        f'<iframe width=1200 height=900 srcdoc="{html.escape(page)}"></iframe>'
        for page in pages.values()
    )
    place = tmp_path_factory.mktemp("pages")
    written = f"<!doctype html><meta charset=utf-8>{''.join(frames)}"
    (place / "all.html").write_text(written, "utf-8")
    with open_browser(place / "profile") as browser:
        browser.open((place / "all.html").as_uri())
        given = [split(text) for text in browser.run(COLLECT)]
    return {name: (page, words) for (name, page), words in zip(pages.items(), given, strict=True)}


def test_no_word_that_a_browser_shows_is_lost(
    shown: dict[str, tuple[str, Counter[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = {name: parse_here(page.encode(), "a.html") for name, (page, _) in shown.items()}
    monkeypatch.setattr(reader, "find_furniture", lambda root: list(root.iter(*NOT_SHOWN)))
    monkeypatch.setattr(reader, "find_main", lambda root: root)
    monkeypatch.setattr(reader, "find_drawn", lambda _: [])
    totals: Counter[str] = Counter()
    for name, (page, given) in shown.items():
        kept = split(documents[name].text)
        if not name.endswith(".html"):
            assert not [word for word in kept if word.startswith("zq")], name
        words = Counter({w: n for w, n in given.items() if not w.startswith("zq")})
        everything = split(parse_here(page.encode(), "a.html").text)
        assert not words - everything, name
        counts = re.findall(r"([\d,]+) (?:character|of)", " ".join(documents[name].remarks))
        n_counted = sum(int(number.replace(",", "")) for number in counts)
        left_out = words - kept
        assert count(left_out) <= n_counted, (name, left_out)
        # Marks of lists are all that a reader adds; heads of columns are repeated.
        assert not [w for w in set(kept) - set(words) if not re.match(r"yq|\d+$", w)], name
        totals.update(
            pages=1, shown=words.total(), left_out=left_out.total(), counted_chars=n_counted
        )
    print(dict(totals))  # noqa: T201 - figures for who asks for them
    assert totals["left_out"] < 0.2 * totals["shown"]
