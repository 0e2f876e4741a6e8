import pytest

from d2l.errors import DocumentError
from d2l.readers.parsing import Heading
from tests.documents import samples
from tests.documents.samples import parse_here, read_bytes
from tests.sized import assert_four_times, measure


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
      <ol start="3"><li>c</li><li>d</li><li value="7">e</li></ol>
      <ol type="a"><li>f</li><li>g</li></ol><pre>if a:
    b = 1
</pre><blockquote>Quote</blockquote>tail"""
    assert read_bytes(page(body), "a.html").text == (
        "A\n\nOne two\nthree\n\n- x\n  - y\n- z\n3. c\n4. d\n7. e\n"
        "a. f\nb. g\n\nif a:\n    b = 1\n\nQuote\n\ntail"
    )


def test_a_heading_in_a_list_has_its_number_and_no_bullet() -> None:
    body = "<ul><li><h2>start</h2><p>It starts.</p></li></ul><ol><li><h3>Open</h3></li></ol>"
    document = read_bytes(page(body), "a.html")
    assert [section.heading for section in document.sections] == ["start", "1. Open"]


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
    assert parse_here(page(body), "a.html").text == "10^6 or 10^−3 m^2, the 1st"


NOTE_MARKS = {
    "EPUB": '<a epub:type="noteref" href="#n1">1</a>',
    "Pandoc": '<a href="#fn1" class="footnote-ref" role="doc-noteref"><sup>1</sup></a>',
    "GitHub": '<sup><a href="#user-content-fn-1-ab" data-footnote-ref>1</a></sup>',
    "Python-Markdown": '<sup id="fnref:1"><a class="footnote-ref" href="#fn:1">1</a></sup>',
    "Asciidoctor": '<sup class="footnote">[<a href="#_footnotedef_1">1</a>]</sup>',
    "Sphinx": '<a class="footnote-reference" href="#id2"><span>[</span>1<span>]</span></a>',
    "Word": '<a href="#_ftn1"><span style="vertical-align:super">[1]</span></a>',
    "by hand": '<sup><a href="notes.html#note1">1</a></sup>',
}


@pytest.mark.parametrize("tool", NOTE_MARKS)
def test_the_mark_of_a_note_is_no_digit_of_the_number_before_it(tool: str) -> None:
    body = f"<p>It weighs 14{NOTE_MARKS[tool]} kg.</p>"
    assert parse_here(page(body), "a.html").text == "It weighs 14 [1] kg."


def test_several_marks_in_one_place_stay_apart() -> None:
    body = "<p>14<sup><a href=#fn1>1</a>,<a href=#fn2>2</a></sup> kg, see <a href=#s>14</a></p>"
    assert parse_here(page(body), "a.html").text == "14 [1], [2] kg, see 14"


def test_many_marks_in_one_place_take_the_time_of_one_pass() -> None:
    def take(n: int) -> float:
        marks = page("<p>x<sup>" + "<a href=#fn1>1</a>" * n)
        return measure(lambda data: parse_here(data, "a.html"), marks)

    assert_four_times(take, 5_000)


@pytest.mark.parametrize("arrow", ["↩", "↩︎", "&#8617;", "↑", "^", "↩<sup>2</sup>"])
def test_the_arrow_back_to_the_mark_goes_and_is_counted(arrow: str) -> None:
    document = parse_here(page(f"<p>At sea level. <a href=#fnref1>{arrow}</a></p>"), "a.html")
    assert document.text == "At sea level."
    assert [finding.kind for finding in document.findings] == ["furniture"]


MATHML = (
    '<math alttext="{\\displaystyle E=mc^{2}}"><semantics><mi>E</mi><annotation>E=mc^{2}'
    "</annotation></semantics></math>"
)


@pytest.mark.parametrize("style", ["display:none", "opacity:0"])
def test_a_formula_behind_its_picture_is_read_once(style: str) -> None:
    body = (
        f'<p>At rest <span><span style="{style}">{MATHML}</span><img aria-hidden=true '
        'class="mwe-math-fallback-image-inline" alt="{\\displaystyle E=mc^{2}}"></span> holds.</p>'
    )
    document = parse_here(page(body), "a.html")
    assert document.text == "At rest E=mc^{2} holds."
    assert document.findings == ()


def test_pictures_of_formulas_alone_are_read() -> None:
    body = (
        "<p><img class=math alt=x=1> <img src='https://latex.codecogs.com/svg?y' alt=y=2>"
        "<img src=pump.jpg alt='A pump'> <span style='display:none'><img class=math alt=z></span>"
    )
    document = parse_here(page(body), "a.html")
    assert document.text == "x=1 y=2"
    assert [(finding.kind, finding.count) for finding in document.findings] == [("hidden", 1)]


def test_properties_in_the_header_of_an_article_stay() -> None:
    body = f"""<article><header><h1>Pump</h1><table><tr><th>Owner</th>
      <td><a href=i>Ida</a></td></tr></table><dl><dt>Due</dt><dd><a href=m>May</a></dd></dl>
      <ul><li><a href=t>Tag</a>
      </li></ul></header><p>{"Rinse it every day. " * 20}</p></article>"""
    document = parse_here(page(body), "a.html")
    assert document.text.startswith("Pump\n\nOwner | Ida\n\nDue\n\nMay\n\n- Tag\n\nRinse it")
    assert document.remarks == ()


CODE = "def f(x):\n    if x:\n        return 7305"
HEXO = CODE.replace("\n", "<br>")
NUMBERED = {
    "Pygments": "<table class=highlighttable><tr><td class=linenos><div><pre>"
    f"<span class=normal>1</span>\n2\n3</pre></div><td><pre>{CODE}\n</pre></table>",
    "Hexo": "<figure class=highlight><table><tr><td class=gutter><pre>1<br>2<br>3</pre>"
    f"</td><td class=code><pre>{HEXO}</pre></td></tr></table></figure>",
    "Rouge": "<table><tr><td class='rouge-gutter gl'><pre class=lineno>1\n2\n3\n</pre></td>"
    f"<td class=rouge-code><pre>{CODE}\n</pre></td></tr></table>",
    "Sphinx": "<pre>"
    + "\n".join(f"<span class=linenos>{n}</span>{x}" for n, x in enumerate(CODE.split("\n")))
    + "</pre>",
}


@pytest.mark.parametrize("tool", NUMBERED)
def test_code_keeps_its_lines_and_loses_their_numbers(tool: str) -> None:
    document = parse_here(page(f"<p>Code:</p>{NUMBERED[tool]}<p>End"), "a.html")
    assert document.text == f"Code:\n\n{CODE}\n\nEnd"
    assert document.remarks


def test_numbers_that_are_no_lines_of_code_stay() -> None:
    body = "<p><span class=lineno>77 kg</span> <b class=gutter>14</b></p>"
    assert parse_here(page(body), "a.html").text == "77 kg 14"


def test_labels_of_tabs_stand_apart() -> None:
    body = "<div><label>pip</label><label>conda</label></div>"
    assert parse_here(page(body), "a.html").text == "pip conda"


@pytest.mark.parametrize(
    "body",
    [
        "<div>" * 20_000 + "deep" + "</div>" * 20_000,
        *(part.format("x" * 10_500_000) for part in ("<p title='{}'>a", "<!--{}--><p>a", "<p>{}")),
    ],
    ids=["deep", "attribute", "comment", "text"],
)
def test_page_nested_too_deeply_or_too_large_is_refused_and_not_cut_short(body: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_bytes(page(body), "a.html")
    assert caught.value.message == (
        "a.html: damaged or not a valid HTML page (its elements are nested too deeply, or an "
        "attribute or text is larger than 10 MB)"
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
