import pytest

from d2l.documents.document import Section
from d2l.documents.readers import read_document
from tests.documents import samples
from tests.documents.samples import read_bytes


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
    assert sections[1].text == "# One #\nText\n```sh\n# a comment\n```"
    assert "| a | b |\n|---|---|\n| 1 | 2 |" in sections[2].text


def test_markdown_text_is_kept_but_for_empty_lines_around_sections() -> None:
    document = read_bytes(b"\n# A\n\nx\n\n\n# B\ny\n", "a.md")
    assert document.text == "# A\n\nx\n\n# B\ny"


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
