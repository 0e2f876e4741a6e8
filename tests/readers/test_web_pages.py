"""The words of web pages as a browser shows them: kept, or left out and counted, and none lost.

In `web_pages.txt` words that begin with `zq` are hidden. Those with `yq` are kept although the
browser does not give them: they are hidden by what `.github/SECURITY.md` lists, or shown by a
shadow tree.
"""

import html
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


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Counter[str]]]:
    """Pages by name, and the words that a browser shows of each; all are in frames of one page."""
    texts = PAGES.read_text("utf-8").removeprefix("=== ").split("\n=== ")
    pages = {name: page for name, _, page in (text.partition("\n") for text in texts)}
    assert len(pages) > 50
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
        # Marks of lists are all that a reader adds.
        assert not [w for w in kept - words if not re.match(r"yq|\d+$", w)], name
        totals.update(
            pages=1, shown=words.total(), left_out=left_out.total(), counted_chars=n_counted
        )
    print(dict(totals))  # noqa: T201 - figures for who asks for them
    assert totals["left_out"] < 0.2 * totals["shown"]
