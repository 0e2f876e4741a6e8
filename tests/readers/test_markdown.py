"""Markdown is read as the page that it makes: nothing hidden, no marks, all code and words."""

import time
from pathlib import Path

import pytest

from d2l.errors import DocumentError
from d2l.readers.html import parse_tree
from d2l.readers.markdown import convert, mark_furniture
from d2l.readers.parsing import Heading, ParseRequest
from tests.documents.samples import parse_here


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!-- SECRET -->", ""),
        ("<!--\n\nSECRET\n\n-->", ""),
        ("Words <!-- SECRET\nSECRET --> and words.", ""),
        ("- item\n  <!-- SECRET -->", ""),
        ("> ```\n> code\n\n<!-- SECRET -->", ""),
        ("`a tick\n\n<!-- SECRET --> `", ""),
        ("<div><!-- x\n\nSECRET\n\n--></div>", ""),
        ("Words.\n\n<!-- SECRET", ""),
        ("[//]: # (SECRET)", ""),
        ("[unused]: http://e.com\n  'SECRET'", ""),
        ("{/* SECRET {x} */}", ""),
        ("Words {/* SECRET\n*/} and words.", ""),
        ("{% comment %}\nSECRET\n\nSECRET\n{% endcomment %}", ""),
        ("<script>\n\nif (a < b) SECRET\n</script>", ""),
        ("<style>.SECRET { color: red }</style>", ""),
        ("Words <template>SECRET</template>", ""),
        ('<span style="display:none">SECRET</span>', "not displayed"),
        ('Words <span style="display:none">SECRET *a* `SECRET`</span> and words.', "not displayed"),
        ("<div hidden>\n\nSECRET\n\n```\nSECRET\n```\n\n</div>", "not displayed"),
        ("<div\nclass='>'\nhidden>SECRET</div>", "not displayed"),
        ("<b-box hidden>SECRET</b-box>", "not displayed"),
        ("<p style='font-size:0'>SECRET</p>", "tiny"),
        ("<font color=white>SECRET</font>", "in the color of its ground"),
        ("<style>\n\n.x { display: none }\n</style>\n\n<b class=x>SECRET</b>", "not displayed"),
    ],
)
def test_hidden_text_is_left_out(text: str, reason: str) -> None:
    data = f"# Title\n\nFirst words.\n\n{text}".encode()
    document = parse_here(data, "a.md")
    assert "SECRET" not in document.text
    assert "First words." in document.text
    assert [found.what for found in document.findings] == [reason] * bool(reason)
    assert ("SECRET" in parse_here(data, "a.md", include_hidden=True).text) is bool(reason)


SEEN = {
    "`<!-- code -->` and ``a ` <b hidden>x</b>``": "<!-- code --> and a ` <b hidden>x</b>",
    "```html\n<!-- code -->\n  <div hidden>x</div>\n\n[//]: # (x)\n```": (
        "<!-- code -->\n  <div hidden>x</div>\n\n[//]: # (x)"
    ),
    "    <!-- code -->\n\n    <div hidden>x</div>": "<!-- code -->\n\n<div hidden>x</div>",
    "1. item\n\n   ```\n   <!-- code -->\n   ```\n\n   more": "1. item\n\n<!-- code -->\n\nmore",
    r"\<!-- shown -->, \`<b hidden\>": "<!-- shown -->, `<b hidden>",
    "An arrow <!-- that nothing ends\n\nand -->": "An arrow <!-- that nothing ends\n\nand -->",
    "a < b and x<y, List<String>, Map<?, ?>, <your name> and </>": (
        "a < b and x<y, List<String>, Map<?, ?>, <your name> and </>"
    ),
    "<your name>\n*is* here": "<your name> is here",
    "Set <title> or <object>, then\n<b>run</b>.": "Set <title> or <object>, then run.",
    "<https://example.org/?a=b> <me@example.org>": "https://example.org/?a=b me@example.org",
    "[text][label], [label] and [one](b.md 'x')\n\n[label]: /a (title)": "text, label and one",
    "Words[^1].\n\n[^1]: http://a.org": "Words[^1].\n\n[^1]: http://a.org",
    "<details><summary>More</summary>\n\nFolded *words*.\n\n</details>": "More\n\nFolded words.",
    "<p align=center><img src=a.png alt=x><br><kbd>Ctrl</kbd></p>": "Ctrl",
    "![A *wired* pump](a.png)": "A wired pump",
    "---\ntitle: '<!-- x -->'\n# a: b\n---\n\nWords": "title: '<!-- x -->'\n# a: b\n\nWords",
    "- *one*\n  - two\n\n3. three\n4. four": "- one\n  - two\n3. three\n4. four",
    "- [x] done ~~now~~": "- [x] done now",
    "a | b\n--|--\n1 <br> 2 | `c`\n": "a | b\na: 1 2 | b: c",
    "| a | b |\n|---|---|\n| x \\| y | 2 |": "a | b\na: x | y | b: 2",
    "{% hint style='info' %}\nShown.\n{% endhint %}": "Shown.",
    '{% tab title="Web" %}\nShown.\n{% endtab %}': "Web Shown.",
    "{{< hint warning >}}\nShown.\n{{% /notice %}}": "Shown.",
    '{{< tab "Linux" >}}Shown.{{< /tab >}}': "Linux Shown.",
    'See {{< figure\nsrc="a.png" caption="The front" >}}.': "See The front .",
    "Parts {#parts .wide}\n{: .no_toc }\nShown.": "Parts Shown.",
    "<Tabs values={[\n  {label: 'Mac'},\n]}>\n<TabItem>\n\nShown.\n\n</TabItem>\n</Tabs>": (
        "Mac\n\nShown."
    ),
    "<TabItem label='Mac'>\n\n- Shown.\n\n</TabItem>": "Mac\n\n- Shown.",
    "<div>\n{% include a.html %}\nShown.\n</div>": "Shown.",
    '<Badge text="New" go={() => x} /> Shown.': "New Shown.",
    "export const A = () => (\n  <b>x</b>\n);\n\nShown.": "Shown.",
    "import {\n  A,\n} from 'a';\n\nShown.": "Shown.",
    "import of goods\n\nShown.": "import of goods\n\nShown.",
    "{% highlight sh %}\n# code {{ x }}\n{% endhighlight %}": "# code {{ x }}",
    "{{< highlight go >}}\n# code\n{{< /highlight >}}": "# code",
    "```jsx\nimport a from 'b'\n<Tabs>{/* x */}</Tabs>\n```": (
        "import a from 'b'\n<Tabs>{/* x */}</Tabs>"
    ),
    "`{% raw %}`, `{{< toc >}}` and `<Tabs></Tabs>`": "{% raw %}, {{< toc >}} and <Tabs></Tabs>",
    "{{ site.version }}, {:ok, 1}, {#each}, {a: 1}, {/*.txt} and Map<Key, Value>": (
        "{{ site.version }}, {:ok, 1}, {#each}, {a: 1}, {/*.txt} and Map<Key, Value>"
    ),
    "One <span class='x'>two\n\nthree": "One two\n\nthree",
    "<table>\n<tr><th>Pin<th>To</tr>\n<tr><td>A<td>B</tr>\n</table>": "Pin | To\nPin: A | To: B",
}


@pytest.mark.parametrize("text", SEEN)
def test_text_that_is_shown_stays(text: str) -> None:
    document = parse_here(f"First.\n\n{text}\n\nLast.".encode(), "a.md")
    if text.startswith("---"):
        document = parse_here(f"{text}\n\nLast.".encode(), "a.md")
    assert document.text.removeprefix("First.\n\n") == f"{SEEN[text]}\n\nLast."
    assert document.findings == ()


def test_a_readme_is_read_without_its_furniture() -> None:
    readme = Path(__file__).parents[1] / "data" / "readmes" / "valve.md"
    document = parse_here(readme.read_bytes(), readme.name)
    assert document.text == readme.with_suffix(".txt").read_text().rstrip()
    assert {finding.kind for finding in document.findings} == {"furniture"}
    told = " ".join(finding.what for finding in document.findings)
    for words in ("SECRET is the largest seller", "SECRET docs", "SECRET Deutsch", "SECRET build"):
        assert words in told


@pytest.mark.parametrize(
    "text",
    [
        "[One](a) | [Two](b)",
        "[One](a), [Two](b), [Three](c)",
        "See [One](a) | [Two](b) | [Three](c)",
        "| [One](a) | [Two](b) | [Three](c) |\n|---|---|---|",
        "# Our sponsors\n\n- [Acme](https://a.example) gave a pump.",
        "# Pumps\n\n- [![](a.png)](https://a.example) Acme gave a pump.",
        "# Sponsors\n\n## License\n\n- <a href='b'><img src='a.png'></a> Acme gave a pump.",
        "![A gauge](gauge.png)",
    ],
)
def test_links_and_pictures_that_tell_something_stay(text: str) -> None:
    document = parse_here(f"First.\n\n{text}".encode(), "a.md")
    for word in ("One", "Two", "Three", "Acme", "gauge", "pump"):
        assert (word in text) == (word in document.text)
    assert not document.findings


def test_headings_open_sections() -> None:
    text = (
        "Before.\n\nPump & *seal*\n====\n\nA.\n\n### Care `x` ###\n\n```\n# no\n```\n\n# #1 of C#"
    )
    document = parse_here(text.encode(), "a.md")
    assert [section.headings for section in document.sections] == [
        (),
        (Heading(0, 1, "Pump & seal"),),
        (Heading(0, 3, "Care x"),),
        (Heading(0, 1, "#1 of C#"),),
    ]


def test_elements_that_stay_open_end_with_their_paragraph() -> None:
    text = "One <span style='display:none'>two\n\nthree\n\n- <b hidden>four\n- five"
    document = parse_here(text.encode(), "a.md")
    assert document.text == "One\n\nthree\n\n- five"


def test_many_unclosed_elements_do_not_nest() -> None:
    text = "List<String> <your name> <a name='x'>\n\n<your name>\n\n<p class='b'>\n\n" * 400
    assert parse_here(text.encode(), "a.md").text.count("<your name>") == 800


@pytest.mark.parametrize("mark", ["> ", "- ", "1. "])
def test_blocks_are_nested_within_bounds(mark: str) -> None:
    assert parse_here(f"{mark * 15}words".encode(), "a.md").text.endswith("words")
    with pytest.raises(DocumentError, match="nested too deeply"):
        parse_here(f"{mark * 200}words".encode(), "a.md")


def test_a_document_of_comments_alone_is_refused() -> None:
    with pytest.raises(DocumentError, match="no text"):
        parse_here(b"<!-- nothing else -->", "a.md")


@pytest.mark.parametrize(
    "text",
    [
        "a <!-- " * 40_000,
        "<div> <!-- " * 20_000,
        "<div>\n\n<!-- a" * 20_000,
        "a <!a " * 40_000,
        "a <b c='" * 30_000,
        "<b " + "a " * 100_000,
        "a " + "".join("`" * (n % 300) + " " for n in range(1500)),
        "[a]: b 'c\n" * 20_000,
        "[" * 60_000 + "]:",
        "[a" * 40_000 + "]:",
        "*a_ **b " * 30_000,
        "    <\n" * 40_000,
        "{/* " * 30_000,
        "{% comment %}" * 20_000,
        "{% comment %}\n" * 20_000,
        "import a\n" * 30_000,
        "<A" + "a" * 200_000,
        "|" * 200_000 + "\n",
        "| a |\n|---|\n" * 20_000,
        "<table> " * 30_000,
        "<div>" * 240 + "<a href=x><b>|" * 5000,
        "# Sponsors\n\n" + "<ul>" * 200 + "<a href=x><img>" * 5000,
        "[![a](b)](c) | " * 20_000,
    ],
)
def test_converting_takes_the_time_of_one_pass(text: str) -> None:
    """The square of these lengths would take minutes."""
    began = time.process_time()
    request = ParseRequest("a", b"")
    mark_furniture(parse_tree(convert(text, request), request))
    assert time.process_time() - began < 30
