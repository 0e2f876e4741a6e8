import pytest

from tests.documents.samples import HALF_EM, make_pdf, read_bytes


def read(content: str) -> str:
    return read_bytes(make_pdf([content], font=HALF_EM), "a.pdf").text


# Ten characters of 5 points and two spaces widened by 20 points: the next string begins at 90.
@pytest.mark.parametrize(
    "shown",
    [
        "20 Tw (a word tha) Tj 0 Tw",
        "20 Tw [(a wo) 0 (rd tha)] TJ 0 Tw",
        '14 TL 20 0 (a word tha) " 0 Tw',
        "14 TL 20 Tw (a word tha) ' 0 Tw",
        "q 20 Tw (a word tha) Tj Q",
    ],
)
def test_spacing_of_words_does_not_split_the_word_after_them(shown: str) -> None:
    assert (
        read(f"BT /F1 10 Tf 72 700 Td {shown} 90 0 Td (t is here) Tj ET") == "a word that is here"
    )


def test_spacing_of_words_does_not_hide_a_gap() -> None:
    shown = "20 Tw (a word) Tj 0 Tw 56 0 Td (more) Tj"  # 6 * 5 + 20 points, and a gap of 6
    assert read(f"BT /F1 10 Tf 72 700 Td {shown} ET") == "a word more"


def test_inline_image_between_strings_does_no_harm() -> None:
    image = "BI /W 1 /H 1 /BPC 8 /CS /G ID \xff EI"
    assert read(f"BT /F1 10 Tf 72 700 Td (one) Tj ET {image} BT 72 600 Td (two) Tj ET") == (
        "one\n\ntwo"
    )
