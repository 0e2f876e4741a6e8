import pytest

from d2l.readers.plain_headings import find_plain_headings
from tests.documents.samples import read_bytes

MANUAL = """Pump manual

1. Care
2. Faults

Chapter 1. Care

1.1. Filter

Rinse it.

3. Take the filter out

1.2. Seal

Grease it.

Chapter 2. Faults

E2: call service.
"""
PAGE = """PUMP(1)                 User Commands                 PUMP(1)

NAME
       pump - move water

OPTIONS
       -a     all of the water

       -b     from below, and then
              from above,
              or from the side
              of the tank,
              as it is filled

SEE ALSO
       valve(1)

end of page
"""


def find(text: str) -> list[tuple[int, str]]:
    return [(heading.level, heading.title) for heading in find_plain_headings(text)]


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        (PAGE, [(1, "NAME"), (1, "OPTIONS"), (1, "SEE ALSO")]),
        ("Pump\n====\n\nText.\n\nCare\n----\n", [(1, "Pump"), (2, "Care")]),
        (
            "1.  Scope\n\n   All of\n   these.\n\n2.  Use\n\n   None.\n",
            [(1, "1. Scope"), (1, "2. Use")],
        ),
    ],
    ids=["manual page", "underlined", "indented text"],
)
def test_headings_of_plain_texts_are_found(text: str, headings: list[tuple[int, str]]) -> None:
    assert find(text) == headings


def test_numbered_titles_are_headings_where_they_stand_last_and_items_are_none() -> None:
    document = read_bytes(MANUAL.encode(), "a.txt")
    found = [(h.level, h.title) for section in document.sections for h in section.headings]
    chapters = [(1, "Chapter 1. Care"), (1, "Chapter 2. Faults")]
    assert found == [chapters[0], (2, "1.1. Filter"), (2, "1.2. Seal"), chapters[1]]
    at = document.text.index("Grease")
    assert document.where(at, at + 1) == "§ 1.2. Seal"
    assert document.text.split() == MANUAL.split()


@pytest.mark.parametrize(
    "text",
    [
        "1. Open the lid\n\n2. Fill in beans\n\n3. Close it\n",
        "A short line\n\nA paragraph of words.\n\nAnother line\n",
        "class Pump:\n    x = 1\n\n\nclass Valve:\n    y = 2\n\n    z = 3\n",
        "int main(void)\n{\n    return 0;\n}\n",
        "1.1 Care ........ 4\n\n1.2 Seal ........ 7\n",
        "1.1 What stands here is a sentence.\n\n1.2 and this goes on\n",
        "Name     Age\n------------\nAnn      31\n",
    ],
    ids=["items", "paragraphs", "Python", "C", "contents", "sentences", "columns"],
)
def test_other_lines_are_no_headings(text: str) -> None:
    assert find(text) == []
