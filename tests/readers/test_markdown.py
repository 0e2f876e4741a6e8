"""What nobody sees of Markdown is left out and counted; what is seen, code too, stays."""

import time

import pytest

from d2l.errors import DocumentError
from d2l.readers import markdown
from d2l.readers.findings import Finding
from d2l.readers.markdown import remove_hidden, replace
from d2l.readers.markdown_pieces import cut
from d2l.readers.parsing import ParseRequest
from tests.documents.samples import parse_here, read_bytes

COMMENT, UNUSED = "in a comment", "in an unused definition"
TAGS = (markdown._COMMENT, markdown._CODE, markdown._GENERATOR, markdown._TABLE, markdown.PIPES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!-- SECRET -->", COMMENT),
        ("<!--\n\nSECRET\n\n-->", COMMENT),
        ("Words <!-- SECRET\nSECRET --> and words.", COMMENT),
        ("- item\n  <!-- SECRET -->", COMMENT),
        ("> ```\n> code\n\n<!-- SECRET -->", COMMENT),
        ("- ```\n  code\n\n<!-- SECRET -->", COMMENT),
        ("- one\n\n    <!-- SECRET -->\n", COMMENT),
        ("`a tick\n\n<!-- SECRET --> `", COMMENT),
        ("<div>`</div>\n<!-- SECRET --> `", COMMENT),
        ("<div><!-- x\n\nSECRET\n\n--></div>", COMMENT),
        ("Words <!-- a --> <!-- SECRET -->", COMMENT),
        ("<div>\n~~~\n1. <!-- SECRET --> `a`", COMMENT),
        ("<?note SECRET>", COMMENT),
        ("<!SECRET>", COMMENT),
        ("Words.\n\n<!-- SECRET", COMMENT),
        ("[//]: # (SECRET)", UNUSED),
        ('[//]: # "SECRET"', UNUSED),
        ("[unused]: http://e.com\n  'SECRET'", UNUSED),
        ('<span style="display:none">SECRET</span>', "not displayed"),
        ('Words <span style="display:none">SECRET *a* `SECRET`</span> and words.', "not displayed"),
        ("<div hidden>\n\nSECRET\n\n```\nSECRET\n```\n\n</div>", "not displayed"),
        ("<div\nclass='>'\nhidden>SECRET</div>", "not displayed"),
        ("<p style='font-size:0'>SECRET</p>", "tiny"),
        ("<font color=white>SECRET</font>", "in the color of its ground"),
        ("<style>\n\n.x { display: none }\n</style>\n\n<b class=x>SECRET</b>", "not displayed"),
        ("<script>\n\nif (a < b) SECRET\n</script>", "not displayed"),
        ("<style>.SECRET { color: red }</style>", "not displayed"),
        ("Words <template>SECRET</template>", "not displayed"),
    ],
)
def test_hidden_text_is_left_out_and_counted(text: str, reason: str) -> None:
    text = f"# Title\n\nFirst words.\n\n{text}"
    document = parse_here(text.encode(), "a.md")
    assert "SECRET" not in document.text
    assert "First words." in document.text
    assert reason in {found.what for found in document.findings if found.kind == "hidden"}
    whole = parse_here(text.encode(), "a.md", include_hidden=True)
    assert whole.text == text.rstrip("\n")
    assert whole.findings == document.findings


def test_characters_are_counted_without_spaces_and_marks() -> None:
    text = "One.\n\n<!-- two three -->\n\n[//]: # (x)\n\n<b hidden>four <i>five</i></b>"
    assert parse_here(text.encode(), "a.md").findings == (
        Finding("hidden", COMMENT, 8),
        Finding("hidden", UNUSED, len("[//]:#(x)")),
        Finding("hidden", "not displayed", 8),
    )


SEEN = [
    "`<!-- code -->` and ``a ` <b hidden>x</b>``",
    "```html\n<!-- code -->\n<div hidden>x</div>\n\n[//]: # (x)\n```",
    "~~~\n<!-- code\n~~~\n\nmore -->",
    "    <!-- code -->\n\n    <div hidden>x</div>",
    "- item\n\n      <!-- code -->",
    "1. item\n\n   ```\n   <!-- code -->\n   ```\n\n   more",
    "> ```\n> <!-- code -->\n> ```",
    "- item\n```\n<!-- code -->\n```",
    r"\<!-- shown -->, \`<b hidden\>",
    "An arrow <!-- that nothing ends\n\nand a paragraph -->",
    "a < b and c > d, x<y, List<String>, Map<?, ?>, <your name> and </>",
    "<https://example.org/?a=b> <me@example.org>",
    "[text][label] and [label] and [Label two][]\n\n[label]: /a (title)\n[label  TWO]: <b c> 'd'",
    "[Alice]: Hello.\n[Alice]: hello there\n\n[^1]: A note.",
    "Words\n[//]: # (after words it is no definition)",
    "<details><summary>More</summary>\n\nFolded words.\n\n</details>",
    "<p align=center><img src=a.png alt='A picture'><br><kbd>Ctrl</kbd></p>",
    "Words <span style='display:none'></span> and words",
    "---\ntitle: '<!-- x -->'\n---\n\nWords",
    "a | b\n\n1 <br> 2 | `<b hidden>`",
]


@pytest.mark.parametrize("text", SEEN)
def test_text_that_is_shown_stays_as_it_is(text: str) -> None:
    document = parse_here(f"{text}\n\nLast.".encode(), "a.md")
    assert "\n\n".join(part.text for part in document.sections) == f"{text}\n\nLast."
    assert [found for found in document.findings if found.kind == "hidden"] == []


SITE_TAGS = [
    ("{% hint style='info' %}\nShown.\n{% endhint %}", "Shown."),
    ('{% tab title="Web" %}\nShown.\n{% endtab %}', "Web\nShown."),
    ("{{< hint warning >}}\nShown.\n{{% /notice %}}", "Shown."),
    ('{{< tab "Linux" >}}Shown.{{< /tab >}}', "Linux Shown."),
    ('See {{< figure\nsrc="a.png" caption="The front" >}}.', "See The front ."),
    ("## Parts {#parts .wide}\n{: .no_toc }\nShown.", "## Parts\nShown."),
    (
        "<Tabs values={[\n  {label: 'Mac'},\n]}>\n<TabItem>\n\nShown.\n\n</TabItem>\n</Tabs>",
        "Mac\nShown.",
    ),
    ('<Badge text="New" go={() => x} /> Shown.', "New Shown."),
    ("export const A = () => (\n  <b>x</b>\n);\n\nShown.", "Shown."),
    ("import {\n  A,\n} from 'a';\n\nShown.", "Shown."),
    ("{% highlight sh %}\n# code {{ x }}\n{% endhighlight %}", "```sh\n# code {{ x }}\n```"),
    ("{{< highlight go >}}\n# code\n{{< /highlight >}}", "```go\n# code\n```"),
    ("<table><tr><td>one<tr><td>two</td></tr></table>", "one\ntwo"),
    (
        "<table>\n<tr><th>Pin</th><th>To</th></tr>\n<tr><td><code>A</code></td><td>B</td></tr>\n</table>",
        "Pin | To\nPin: A | To: B",
    ),
    ("| a | b |\n|---|---|\n| `x|y` | 2 |", "a | b\na: `x | b: y` | 2"),
]


@pytest.mark.parametrize(("text", "kept"), SITE_TAGS)
def test_tags_of_site_generators_leave_their_titles(text: str, kept: str) -> None:
    document = parse_here(f"First.\n\n{text}\n\nLast.".encode(), "a.md")
    assert [" ".join(line.split()) for line in document.text.split("\n") if line.strip()] == [
        "First.",
        *kept.split("\n"),
        "Last.",
    ]
    assert document.findings == ()


@pytest.mark.parametrize(
    "text",
    [
        "```jsx\nimport a from 'b'\n<Tabs>{/* x */}</Tabs>\n```",
        "`{% raw %}`, `{{< toc >}}` and `<Tabs></Tabs>`",
        "    {% comment %}code{% endcomment %}",
        "~~~md\n{% highlight sh %}\n| a | b |\n|---|---|\n| 1 | 2 |\n<table></table>\n~~~",
        "{{ site.version }}, {:ok, 1}, {#each}, {a: 1}, 5 {%} and Map<Key, Value>",
    ],
)
def test_tags_of_site_generators_in_code_and_braces_in_words_stay(text: str) -> None:
    assert parse_here(f"{text}\n\nLast.".encode(), "a.md").text == f"{text}\n\nLast."


@pytest.mark.parametrize("text", ["{/* SECRET {x} */}", "{% comment %}\nSECRET\n{% endcomment %}"])
def test_comments_of_site_generators_are_hidden_text(text: str) -> None:
    document = parse_here(f"First.\n\n{text}\n\nLast.".encode(), "a.mdx")
    assert "SECRET" not in document.text
    assert [found.what for found in document.findings] == [COMMENT]


def test_what_is_left_open_in_a_paragraph_ends_with_it() -> None:
    text = "One <span style='display:none'>two\n\nthree\n\n- <b hidden>four\n- five"
    document = parse_here(text.encode(), "a.md")
    assert [word in document.text for word in ("two", "three", "four", "five")] == [
        False, True, False, True,
    ]  # fmt: skip


def test_many_unclosed_elements_in_prose_do_not_nest() -> None:
    text = "List<String> <your name> <a name='x'>\n\n<your name>\n\n<item a='b' />\n\n" * 400
    assert parse_here(text.encode(), "a.md").text == text.strip("\n")


def test_a_document_of_hidden_text_alone_is_refused() -> None:
    with pytest.raises(DocumentError, match="all of its text is hidden"):
        parse_here(b"<!-- nothing else -->", "a.md")


def test_markup_is_parsed_under_the_limits_of_a_child() -> None:
    document = read_bytes("Für <b hidden>x</b>alle".encode("utf-16"), "a.md")
    assert document.text.startswith("Für")
    assert document.findings


@pytest.mark.parametrize(
    "text",
    [
        "a <!-- " * 40_000,
        "<div> <!-- " * 20_000,
        "<div>\n\n<!-- a" * 20_000,
        "a <!a " * 40_000,
        "a <b c='" * 30_000,
        "a <b c=\"' " * 30_000,
        "<b " + "a " * 100_000,
        "a " + "".join("`" * (n % 300) + " " for n in range(1500)),
        "[a]: b 'c\n" * 20_000,
        "[a]: " + "b" * 100_000 + " c",
        "[" * 200_000 + "]:",
        "[a" * 100_000 + "]:",
        "> " * 100_000 + "<!--",
        "- " * 100_000 + "<!--",
        "```\n<\n" * 40_000,
        "    <\n" * 40_000,
        "{/* " * 60_000,
        "{% comment %}" * 20_000,
        "import a\n" * 30_000,
        "<A" + "a" * 200_000,
        "|" * 200_000 + "\n",
        "<table> " * 30_000,
    ],
)
def test_cutting_takes_the_time_of_one_pass(text: str) -> None:
    """The square of these lengths would take minutes."""
    began = time.process_time()
    list(cut(text))
    if "<" not in text:  # else it takes a parser of markup, too
        remove_hidden(text, ParseRequest("a", b""))
    for tag in TAGS:
        replace(text, tag, "")
    assert time.process_time() - began < 30
