import re
import textwrap
from base64 import b64encode

import pytest

from d2l.documents.read import read_document
from d2l.readers.parsing import Section
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
            "A\n\nx",
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


def test_long_plain_text_is_exact() -> None:
    source = samples.shared_doc("debian-faq.zh-cn.txt")
    assert source.path is not None
    assert read_document(source).text == source.path.read_text("utf-8")


def test_sections_of_a_long_markdown_file_hold_all_its_words() -> None:
    source = samples.shared_doc("almanac.md")
    assert source.path is not None
    document = read_document(source)
    words = re.sub(r"[*`|\\]|^(#+|-|\d+\.) ", " ", source.path.read_text("utf-8"), flags=re.M)
    assert set(re.findall(r"\w+", words)) == set(re.findall(r"\w+", document.text))
    assert document.sections[1].heading == "Afghanistan"
