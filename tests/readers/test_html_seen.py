"""Text of a page that a reader sees is never lost: in doubt it is seen."""

import pytest

from d2l.errors import DocumentError
from tests.documents.samples import parse_here

ABSOLUTE = "position:absolute;"


def read(body: str, css: str = "", head: str = "") -> str:
    """The text of a page."""
    data = (
        f"<!doctype html><html><head>{head}<style>{css}</style></head><body><h1>Seen.</h1>{body}"
        "</body></html>"
    )
    document = parse_here(data.encode(), "a.html")
    return document.text


#: What may stand in a body and hold text that is shown there.
FLOW = """
a abbr address article aside b bdi bdo big blockquote body center cite code data del details dfn dir
div dl em fieldset figcaption figure font footer form h2 header hgroup i ins kbd label legend li
main map mark math menu my-element ol output p picture pre q ruby s samp search section slot small
span strike strong sub summary sup table tbody td th thead time tr tt u ul var
""".split()  # noqa: SIM905 - a list of words
VOID = "area br col embed hr img input link meta source track wbr".split()  # noqa: SIM905


@pytest.mark.parametrize("tag", [*FLOW, *VOID, "dialog open", "noscript></noscript", ""])
def test_whatever_stands_first_in_a_page_without_a_body_tag_is_read(tag: str) -> None:
    start, end = (f"<{tag}>", f"</{tag.split()[0]}>" * (tag not in VOID)) if tag else ("", "")
    for head in ("<!doctype html><html lang=en><meta charset=utf-8>", "", "<head>"):
        data = (
            f"{head}<title>Manual</title><style>p{{}}</style>"
            f"{start}<h1>The Marn 12</h1><p>It weighs 14 kg.</p>{end}<p>Printed in Oslo.</p>"
        )
        document = parse_here(data.encode(), "a.html")
        assert (
            document.text.removeprefix("- ")
            == "The Marn 12\n\nIt weighs 14 kg.\n\nPrinted in Oslo."
        )


def test_elements_of_a_page_without_a_body_tag_keep_their_order_and_styles() -> None:
    data = (
        "<title>T</title><main>One<p hidden>two</p></main> three <section>four</section>"
        "<template>five</template><article>six</article>seven<p>eight"
    )
    document = parse_here(data.encode(), "a.html")
    assert document.text == "One\n\nthree\n\nfour\n\nsix\n\nseven\n\neight"
    assert [found.count for found in document.findings] == [len("two")]


@pytest.mark.parametrize(
    "head",
    [
        "<link rel=stylesheet href=dark.css>",
        "<link rel=preload as=style href=dark.css>",
        "<link rel=stylesheet media=print onload=\"this.media='all'\" href=dark.css>",
        "<style>@import 'dark.css';</style>",
        "<meta name=color-scheme content='light dark'>",
        "<style>:root{color-scheme:dark}</style>",
        "<style>@media (prefers-color-scheme:dark){body{background:#000}}</style>",
        "<style>.o::before{content:'';background:#000}</style>",
    ],
)
def test_colors_do_not_decide_where_the_ground_is_not_known(head: str) -> None:
    for style in ("color:#fff", "color:rgb(250,250,250)"):
        assert "more" in read(f"<div class=o><p style='{style}'>more</p></div>", head=head)
    assert "more" not in read("<p hidden>more</p><p style='font-size:0'>more</p>", head=head)


def test_a_sheet_for_print_leaves_colors_to_decide() -> None:
    head = "<link rel=stylesheet media=print href=a.css><link rel=icon href=a.png>"
    assert "more" not in read("<p style='color:#fff'>more</p>", head=head)


@pytest.mark.parametrize(
    "css",
    [
        ".f{opacity:0;animation:f 1s forwards}@keyframes f{to{opacity:1}}",
        ".f{opacity:0;transition:opacity .6s ease}.f.is-in{opacity:1}",
        ".f{opacity:0;transition:.3s}",
        ".f{opacity:0;-webkit-transition:all 1s cubic-bezier(.2,0,0,1)}",
        ".f{visibility:hidden;transition:transform 1s, color 1s}",
        ".o{animation:f 1s}.f{visibility:hidden}",
        ".f{opacity:0;transition:opacity 1s;transition-delay:1s;animation:none}",
        ".f{visibility:hidden;animation-name:none}",
        ".f{position:absolute;left:-9999px;transition-property:left;transition-duration:1s}",
    ],
)
def test_text_that_fades_in_is_seen(css: str) -> None:
    assert "more" in read("<div class=o><p class=f>more</p></div>", css)


@pytest.mark.parametrize(
    "css",
    [
        ".f{opacity:0;transition:background-color 1s}",
        ".f{opacity:0;transition:none}",
        ".f{opacity:0;animation:none}",
        ".f{opacity:0}@media (prefers-reduced-motion:reduce){*{animation:none;transition:none}}",
        ".f{display:none;transition:opacity 1s}",
    ],
)
def test_text_that_does_not_fade_in_is_hidden(css: str) -> None:
    assert "more" not in read("<p class=f>more</p>", css)


def test_the_tab_that_is_checked_is_seen() -> None:
    css = ".t{display:none} #r1:checked ~ .t1, #r2:checked ~ .t2{display:block}"
    body = (
        "<input type=radio id=r1 checked><input type=radio id=r2>"
        "<div class='t t1'>one</div><div class='t t2'>two</div>"
    )
    assert read(body, css) == "Seen.\n\none"
    options = "option{display:none} :checked + p{display:block} p{display:none}"
    assert read("<input selected><p>one</p><p>two</p>", options) == "Seen.\n\none"


@pytest.mark.parametrize(
    "css",
    [
        "p:nth-child(2){display:block}",
        "p:nth-last-of-type(1){display:block}",
        "p:has(b){display:block}",
        ":is(h1, p){display:block}",
        "p:not(.x){display:block}",
        "@media (min-width:600px){p{display:block}}",
        "@media not print{p{display:block}}",
        "@supports (display:grid){p{display:block}}",
        "@layer a{p{display:block}}",
        "@container (min-width:1px){p{display:block}}",
        "p{@media (min-width:600px){display:block}}",
        "body{& p{display:block}}",
        "body{> p{display:block}}",
        "p{display:var(--d)}",
        "p{all:revert}",
        "p{display:block block}",
        "p" + ":not(" * 2000 + ".x" + ")" * 2000 + "{display:block}",
        "p" + ":is(" * 2000 + ".x" + ")" * 2000 + "{display:block}",
        "p{" * 200 + "display:block" + "}" * 200,
        "p{display:" + "f(" * 5000 + "}",
    ],
)
def test_a_rule_that_is_not_understood_may_show_text(css: str) -> None:
    assert "more" in read("<p>more</p>", "p{display:none}" + css)


@pytest.mark.parametrize(
    "css",
    [
        "p:nth-child(2){display:none}",
        "p:no-such{display:none}",
        "p, b:no-such{display:none}",
        "p, b::no-such{display:none}",
        "p:hover, p::before{display:none}",
        ".no-js p{display:none}",
        "p >> b, p > > p, body > > p{display:none}",
        "@media (max-width:600px){p{display:none}}",
        "@media print{p{display:none}}",
        "@supports (no-such:thing){p{display:none}}",
        "@layer a{p{display:none}}",
        "@keyframes f{from{display:none}}",
        "{ p }}} @@ ;",
        "{display:none}",
        "p" + ":not(" * 5000 + "{display:none}",
        "p" * 3 + " > " + "[" * 3000 + "{display:none}",
    ],
)
def test_a_rule_that_is_not_understood_hides_nothing(css: str) -> None:
    assert "more" in read("<div class=no-js><p>more</p></div>", css)


@pytest.mark.parametrize(
    ("style", "css"),
    [
        ("color:white;background:navy", ""),
        ("color:white;background:url(night.png)", ""),
        ("color:white;background:linear-gradient(red, blue)", ""),
        ("color:white", "body { background: #222 }"),
        ("color:white", "body { background: var(--dark) }"),
        ("color:white", "body { background: rgb(0 0 0 / 50%) }"),
        ("color:white;text-shadow:0 0 2px black", ""),
        ("color:white;position:absolute;top:9px", ""),
        ("color:white;margin-top:-40px", ""),
        ("color:white;box-shadow:inset 0 0 0 99px black", ""),
        ("color:white;filter:invert(1)", ""),
        ("color:var(--a)", ""),
        ("color:#ccc", ""),
        ("color:transparent;background:linear-gradient(red, blue);background-clip:text", ""),
        ("color:transparent;background:url(b.png) text", ""),
        ("opacity:.5", ""),
        ("opacity:" + "9" * 9000, "p { width: " + "9" * 9000 + "px }"),
        ("opacity:var(--o)", ""),
        ("display:block", "p { display: none }"),
        ("visibility:visible", "body { visibility: hidden } h1 { visibility: visible }"),
        ("font-size:12px", "body { font-size: 0 } h1 { font-size: 20px }"),
        ("font-size:1rem", "body { font-size: 0 } h1 { font-size: 20px }"),
        ("font-size:.12rem", ""),  # of a size that a script sets
        ("font-size:0;font-size:12", ""),
        ("font-size:calc(1rem + 1vw)", ""),
        ("font-size:1px;transform:scale(16)", ""),
        ("position:relative;left:-5px", ""),
        ("left:-9999px", ""),
        ("margin:0 -9999px;padding:0 9999px", ""),
        (f"{ABSOLUTE}left:-9999px;right:-9999px;margin:auto", ""),
        (f"{ABSOLUTE}left:-1140px;width:5000px", ""),
        (f"{ABSOLUTE}left:-2000px;width:400%", ""),
        (f"{ABSOLUTE}top:9000px", ""),
        (f"{ABSOLUTE}left:50%;width:1200px;margin-left:-600px", ""),
        ("text-indent:2em;overflow:hidden", ""),
        ("text-indent:0", "body { text-indent: -9999px } h1 { text-indent: 0 }"),
        ("transform:scale(0.9)", ""),
        ("height:0", ""),
    ],
)
def test_text_that_can_be_seen_stays(style: str, css: str) -> None:
    assert read(f'<p style="{style}">shown words</p>', css) == "Seen.\n\nshown words"


@pytest.mark.parametrize(
    "body",
    [
        "<div style='position:relative'><img src=a.png style='position:absolute'>"
        "<p style='color:#fff'>more</p></div>",
        "<div style='position:relative'><div style='position:absolute;background:#000'></div>"
        "<p style='color:#fff'>more</p></div>",
        "<div style='color:#fff'><a href=a>more</a></div>",
        "<div style='color:#fff'><mark>more</mark></div>",
        "<table><col style='background:#000'><tr><td style='color:#fff'>more</table>",
        "<div style='background:#000;height:0'><p style='color:#000'>more</p></div>",
        f"<div style='{ABSOLUTE}left:-9999px'><p style='{ABSOLUTE}left:10100px'>more</p></div>",
        f"<div style='{ABSOLUTE}left:-9999px'><p style='position:fixed;left:9px'>more</p></div>",
        "<p hidden style='display:flex'>more</p>",
        "<noscript><style>p{display:none}</style></noscript><p>more</p>",
        "<style type=text/x>p{display:none}</style><p>more</p>",
        "<style title=a>h1{}</style><style title=b>p{display:none}</style><p>more</p>",
        "<dialog open>more</dialog>",
        "<h2><button>more</button></h2>",
    ],
)
def test_text_stays_where_elements_around_show_it(body: str) -> None:
    assert read(body) == "Seen.\n\nmore"


@pytest.mark.parametrize(
    ("body", "n_chars"),
    [
        ("<svg><title>x</title><text>Valve 7</text></svg>", "7 characters"),
        ("<object>in its place<embed></object>", "12 characters"),
        ("<span aria-hidden=true>17 bar</span>", "6 characters"),
        ("<button>O<b hidden>pen</b></button>", "1 character"),
        ("<select><option>big<option>small</select>", "9 characters"),
        ("<svg><text><tspan aria-hidden=true>ab</tspan></text></svg>", "2 characters"),
    ],
)
def test_drawings_and_buttons_are_counted(body: str, n_chars: str) -> None:
    data = f"<!doctype html><body><p>Seen. {body}</p><p hidden>{body}</p>".encode()
    document = parse_here(data, "a.html")
    assert document.text == "Seen."
    assert document.remarks == (f"{n_chars} of drawings and buttons left out",)
    assert document.findings == ()


@pytest.mark.parametrize(
    ("body", "remark"),
    [
        ("<nav>Home</nav>", "4 characters of menus and page furniture left out"),
        (
            "<nav>H</nav><footer>i<br>j</footer>",
            "4 characters of menus and page furniture left out",
        ),
        (
            "<div class=toc><a href=b>1 <b hidden>2</b><script>x</script>"
            "<i style='opacity:0'>y</i></a></div>",
            "1",
        ),
        ("<header>a<nav>b</nav><ul><li>c</ul></header><dialog>d</dialog>", "5"),
        (
            "<nav>a<svg><text>b</text></svg></nav><button>cd</button>",
            "3 characters of menus and page furniture left out, 2 of drawings and buttons",
        ),
        (f"<div>before</div><main>{'word ' * 60}</main><div><b>after</b><p hidden>x</div>", "16"),
        ("<nav hidden>a</nav><template>b</template><title>c</title>", ""),
    ],
)
def test_furniture_that_is_seen_is_counted(body: str, remark: str) -> None:
    remarks = parse_here(f"<!doctype html><p>Seen.{body}".encode(), "a.html").remarks
    assert "".join(remarks).startswith(remark)
    assert len(remarks) == bool(remark)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>one</p></body></html><p>two</p></HTML >three", "one\n\ntwo\n\nthree"),
        ("one</br>two</p>three\x0cfour", "one\ntwo three four"),
        ("one<embed src=a>two<p>three", "onetwo\n\nthree"),
        ("<map name=m><area>one<p>two</map>", "one\n\ntwo"),
        ("<dialog open>one</dialog>two<hgroup>three</hgroup>four", "one\n\ntwo\n\nthree\n\nfour"),
        ("<x-y><template shadowrootmode=open><style>p{display:none}</style>one</template><p>two",
         "one\n\ntwo"),
        ("<div role=tabpanel>one</div><div role=tabpanel hidden>two</div>"
         "<div role=tabpanel style=display:none><p hidden>x<p>three</div>", "one\n\ntwo\n\nthree"),
        ("<div role=main><h1>one</h1><aside class=footnote>two</aside></div>", "one\n\ntwo"),
        ("<math><mfrac><mn>1</mn><mn>2</mn></mfrac><msqrt><mi>h</mi></msqrt><mtext>if</mtext>"
         "<msup><mi>v</mi><mn>2</mn></msup></math>", "1/2√h if v^2"),
    ],
)  # fmt: skip
def test_what_a_browser_shows_is_kept(body: str, text: str) -> None:
    assert parse_here(f"<!doctype html><body>{body}".encode(), "a.html").text == text


def test_a_page_of_furniture_alone_says_so() -> None:
    with pytest.raises(DocumentError) as caught:
        parse_here(b"<!doctype html><nav>Home</nav>", "a.html")
    assert caught.value.hint == "4 characters of menus and page furniture left out"


@pytest.mark.parametrize("tag", ["noembed", "meter", "progress", "annotation-xml", "dialog"])
def test_text_in_place_of_something_else_is_not_read(tag: str) -> None:
    assert read(f"<div><{tag}>more words</{tag}></div>") == "Seen."


@pytest.mark.parametrize("css", [":is(", ":not(", "[", "p{", "@media screen{", "p{color:rgb("])
def test_css_that_is_nested_too_deeply_hides_nothing(css: str) -> None:
    assert read("<p>word</p>", css * 5_000 + "p{display:none}").endswith("word")


def test_style_sheets_without_end_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2l.readers.styles.MAX_WORK", 1000)
    rules = "".join(f"p, #a{n}{{display:none}}" for n in range(600))
    data = f"<!doctype html><style>{rules}</style><p>one</p><p id=a7>two</p>".encode()
    document = parse_here(data, "a.html")
    assert document.text == "one\n\ntwo"
    assert document.notes == (
        "its style sheets take too long to judge; text that they hide is kept",
    )
