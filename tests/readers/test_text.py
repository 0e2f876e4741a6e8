import textwrap
import time
from base64 import b64encode

import pytest

from d2l.documents.read import read_document
from d2l.readers.parsing import Heading, Section
from d2l.readers.text import find_headings
from tests.documents import samples
from tests.documents.samples import parse_here, read_bytes


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a\r\nb\r\n", "a\nb\n"),
        (b"a\rb", "a\nb"),
        (b"  a \n\n\n b\t\n", "  a \n\n\n b\t\n"),
        (b"\xef\xbb\xbfa", "a"),
    ],
)
def test_plain_text_comes_back_as_it_is_but_for_line_ends(raw: bytes, text: str) -> None:
    assert read_bytes(raw, "a.txt").sections == (Section(text),)


def test_markdown_is_cut_at_headings_and_nowhere_else() -> None:
    text = """\
---
title: no heading
---
Intro.

# One #
Text
```sh
# a comment
```

Two
===
| a | b |
|---|---|
| 1 | 2 |

- item
---

####### seven

~~~
## code
~~~~

## Three
"""
    sections = read_bytes(text.encode(), "a.md").sections
    assert [section.heading for section in sections] == [None, "One", "Two", "Three"]
    headings = [section.headings for section in sections]
    assert headings == [
        (),
        (Heading(0, 1, "One"),),
        (Heading(0, 1, "Two"),),
        (Heading(0, 2, "Three"),),
    ]
    assert sections[1].text == "# One #\nText\n```sh\n# a comment\n```"
    assert "a | b\na: 1 | b: 2" in sections[2].text


def test_markdown_text_is_kept_but_for_empty_lines_around_sections() -> None:
    document = read_bytes(b"\n# A\n\nx\n\n\n# B\ny\n", "a.md")
    assert document.text == "# A\n\nx\n\n# B\ny"


def wrap_lines(text: str, width: int, indent: str = "") -> str:
    return f"\n{indent}".join(textwrap.wrap(text, width))


PICTURE = b64encode(bytes(range(256)) * 9).decode()
LEFT_OUT = "characters of base64 (pictures or files) left out"


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        (
            "a.md",
            f"# A\n\n![x](data:image/png;base64,{PICTURE})\n",
            "# A\n\n![x](data:image/png;base64,)",
        ),
        (
            "a.vcf",
            f"FN:Ida\nPHOTO:{wrap_lines(PICTURE, 74, ' ')}\nEND:VCARD\n",
            "FN:Ida\nPHOTO:\nEND:VCARD\n",
        ),
        ("a.txt", f"One.\n{wrap_lines(PICTURE, 76)}\n\nTwo.", "One.\n\n\nTwo."),
    ],
)
def test_pictures_and_files_in_base64_are_left_out_and_told(
    name: str, text: str, kept: str
) -> None:
    document = parse_here(text.encode(), name)
    assert document.text == kept
    (note,) = document.notes
    assert note.endswith(LEFT_OUT)


@pytest.mark.parametrize("run", ["ACGT" * 999, "0" * 3000, "word" * 900, "a/b/c/D/1" * 6])
def test_long_words_that_are_no_base64_stay(run: str) -> None:
    document = parse_here(run.encode(), "a.txt")
    assert (document.text, document.notes) == (run, ())


def test_an_e_mail_that_is_not_decoded_is_noted() -> None:
    line = "Der Preis betr=C3=A4gt 12 =E2=82=AC f=C3=BCr jede St=C3=BCck, und =\nm=C3=B6glich.\n"
    assert parse_here(line.encode(), "a.txt").notes == (
        "5 signs like =C3=A4; if it is an e-mail, give --format eml",
    )
    assert parse_here(b"timeout=90 port=80 size=C0FFEE " * 20, "a.txt").notes == ()


def test_the_imports_of_mdx_are_no_text() -> None:
    imports = "import Tabs from '@theme/Tabs';\nexport const x = 1\n\n"
    code = "```js\nimport a from 'b'\n```\nimport is a word."
    text = f"---\ntitle: x\n---\n{imports}# Pump\n\n{code}"
    kept = f"---\ntitle: x\n---\n\n# Pump\n\n{code}"
    assert parse_here(text.encode(), "a.mdx").text == kept
    assert parse_here(text.encode(), "a.md").text == kept


def test_long_plain_text_is_exact() -> None:
    source = samples.shared_doc("debian-faq.zh-cn.txt")
    assert source.path is not None
    assert read_document(source).text == source.path.read_text("utf-8")


def test_sections_of_a_long_markdown_file_hold_all_its_words() -> None:
    source = samples.shared_doc("almanac.md")
    assert source.path is not None
    document = read_document(source)
    assert document.text.split() == source.path.read_text("utf-8").split()
    assert document.sections[1].heading == "Afghanistan"


@pytest.mark.parametrize(
    ("lines", "level", "title"),
    [
        ("# A", 1, "A"),
        ("   ###### A b \t", 6, "A b"),
        ("## A ##", 2, "A"),
        ("## A#", 2, "A#"),
        ("# C# ## \t", 1, "C#"),
        ("# #", 1, "#"),
        ("#", 1, None),
        ("#\t", 1, None),
        ("A\n==", 1, "A"),
        ("A\n--", 2, "A"),
    ],
)
def test_headings_have_the_level_and_the_title_that_their_marks_say(
    lines: str, level: int, title: str | None
) -> None:
    assert list(find_headings(lines.split("\n"))) == [(0, level, title)]


@pytest.mark.parametrize("line", ["    # A", "#A", "####### A", r"\# A"])
def test_other_lines_with_a_mark_are_no_headings(line: str) -> None:
    assert list(find_headings([line])) == []


@pytest.mark.parametrize(
    "text",
    [
        "---\n" + "key: value\n" * 200_000,  # front matter that nothing ends
        "# a" + " " * 2_000_000 + "b",
        "# a" + " #" * 1_000_000 + "b",
    ],
)
def test_long_markdown_takes_the_time_of_one_pass(text: str) -> None:
    """The square of these lengths would take hours."""
    began = time.process_time()
    list(find_headings(text.split("\n")))
    assert time.process_time() - began < 5
