import pytest

from d2l.errors import DocumentError
from d2l.readers.parsing import Heading
from tests.documents import samples
from tests.documents.samples import read_bytes


def page(body: str) -> bytes:
    return f"<!doctype html><html><head><title>T</title></head><body>{body}</body></html>".encode()


def test_furniture_is_left_out() -> None:
    body = """<header><a href="/">Logo</a></header><nav>Menu</nav><script>x()</script>
      <style>p{}</style><noscript>Enable</noscript><noframes>Old</noframes>
      <div hidden>Hidden</div>
      <p style="display: none">Unseen</p><h2>Head<a class="headerlink">¶</a></h2>
      <p>Body<span class="mw-editsection">[edit]</span> text<sup class="reference">[1]</sup>.</p>
      <p>See <a class="reference" href="#x">the next part</a>.</p>
      <aside><a href=x>Advert</a></aside><footer>Imprint</footer>"""
    document = read_bytes(page(body), "a.html")
    assert document.text == "Head\n\nBody text.\n\nSee the next part."
    assert [section.heading for section in document.sections] == ["Head"]


def test_headings_have_the_level_of_their_element() -> None:
    body = "<p>Lead</p><h1>Pumps</h1><h3>Filter<br>care</h3><p>Rinse.</p><h2>Motor</h2>"
    document = read_bytes(page(body), "a.html")
    assert [section.headings for section in document.sections] == [
        (),
        (Heading(0, 1, "Pumps"),),
        (Heading(0, 3, "Filter care"),),
        (Heading(0, 2, "Motor"),),
    ]
    assert document.heading_path(document.text.index("Rinse")) == ("Pumps", "Filter care")


@pytest.mark.parametrize(
    "furniture",
    [
        '<div class="navheader"><table><tr><td>Prev</td><td>Next</td></tr></table></div>',
        '<div class="navfooter">Home</div>',
        '<table class="nav-panel"><tr><td>[ Up ]</td></tr></table>',
        '<a class="hash-link" href="#x">#</a>',
    ],
)
def test_furniture_of_manuals_is_left_out(furniture: str) -> None:
    body = f"{furniture}<h1>Pump<a class='copiable-link'> ¶</a></h1><p>Text</p>"
    assert read_bytes(page(body), "a.html").text == "Pump\n\nText"


def test_header_with_the_title_keeps_the_title_only() -> None:
    body = (
        "<header><h1>Title</h1><ul><li><a href=d>Deutsch</a></li></ul><div><a href=l>Log in</a>"
        "</div></header><p>Text</p>"
    )
    assert read_bytes(page(body), "a.html").text == "Title\n\nText"


def test_main_element_is_the_page_if_it_holds_text() -> None:
    words = "word " * 60
    body = f"<div>Menu</div><main><p>{words}</p></main><div>More</div>"
    assert read_bytes(page(body), "a.html").text == words.strip()


def test_blocks_lists_and_code_keep_their_shape() -> None:
    body = """<h1>A</h1><p>One
      two<br>three</p><ul><li>x<ul><li>y</li></ul></li><li><p>z</p></li></ul>
      <ol start="3"><li>c</li><li>d</li></ol><pre>if a:
    b = 1
</pre><blockquote>Quote</blockquote>tail"""
    assert read_bytes(page(body), "a.html").text == (
        "A\n\nOne two\nthree\n\n- x\n  - y\n- z\n3. c\n4. d\n\nif a:\n    b = 1\n\nQuote\n\ntail"
    )


def test_table_rows_keep_their_cells_in_order() -> None:
    body = """<table><caption>Prices</caption><tr><th>Part</th><th>Price</th></tr>
      <tr><td rowspan="2">Seal</td><td><p>4</p><p>EUR</p></td></tr><tr><td>5</td></tr>
      <tr><td>Kits</td><td><ul><li>A</li><li>B</li></ul></td></tr></table><p>After</p>"""
    assert read_bytes(page(body), "a.html").text == (
        "Prices\n\nPart | Price\nPart: Seal | Price: 4 EUR\nPart: Seal | Price: 5\n"
        "Part: Kits | Price: A, B\n\nAfter"
    )


def test_raised_number_does_not_run_into_the_digits_before_it() -> None:
    body = "<p>10<sup>6</sup> or 10<sup>−3</sup> m<sup>2</sup>, the 1<sup>st</sup></p>"
    assert read_bytes(page(body), "a.html").text == "10^6 or 10^−3 m2, the 1st"


def test_page_nested_too_deeply_is_refused_and_not_cut_short() -> None:
    with pytest.raises(DocumentError) as caught:
        read_bytes(page("<div>" * 20_000 + "deep" + "</div>" * 20_000), "a.html")
    assert caught.value.message == (
        "a.html: damaged or not a valid HTML page (its elements are nested too deeply)"
    )


@pytest.mark.parametrize("large", ["<p title='{}'>a</p>", "<!--{}--><p>a</p>", "<p>{}</p>"])
def test_page_with_something_too_large_is_told_from_a_nested_one(large: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_bytes(page(large.format("x" * 10_500_000)), "a.html")
    assert caught.value.message == (
        "a.html: damaged or not a valid HTML page (one of its attributes, comments or stretches "
        "of text is larger than 10 MB)"
    )


def test_wikipedia_page_reads_as_an_article() -> None:
    document = samples.read_shared("wikipedia-page.html")
    lead = document.sections[0]
    assert lead.text.startswith("Microsoft\n\nMicrosoft Corporation\n\nBuilding 92 on the")
    assert "Founders | Bill Gates, Paul Allen\n" in lead.text
    assert (
        "\n\nMicrosoft was founded by Bill Gates and Paul Allen on April 4, 1975, to" in lead.text
    )
    for furniture in ("Afrikaans", "[edit]", "Jump to content", "Privacy policy", "[1]"):
        assert furniture not in document.text
    assert document.sections[1].heading == "History"
