"""What is under text and over it is looked at where its letters are, not by boxes around shapes."""

import time

import pytest

from d2l.documents.findings import Finding
from tests.documents.readers.pdf.test_visible import (
    FONT,
    GROUND,
    HIDDEN,
    N_HIDDEN,
    SEEN,
    build,
    form,
    read,
)
from tests.documents.samples import parse_here

STATES = (
    "/ExtGState << /Faint << /ca 0.02 >> /None << /ca 0 >> /Multiply << /BM /Multiply >> "
    "/Almost << /ca 0.95 >> >>"
)
IMAGE = "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 >>\nstream\n\nendstream"
TILE = (
    "<< /PatternType 1 /PaintType 1 /BBox [0 0 9 9] /XStep 9 /YStep 9 /Length {} >>\n"
    "stream\n{}\nendstream"
)
HATCH = "0 g 0 0 0.2 9 re f"
ROTATED = "0.8 0.6 -0.6 0.8 122 603 cm -60 -60 120 120 re"


def judge(content: str) -> tuple[Finding, ...]:
    """What is found hidden beside seen text; object 6 is an image, object 7 a pattern."""
    resources = f"{STATES} /XObject << /Im 6 0 R >> /Pattern << /P 7 0 R >>"
    extra = [IMAGE, TILE.format(len(HATCH), HATCH)]
    document = parse_here(build(f"{SEEN} {content}", resources=resources, extra=extra))
    assert ("hidden words" in document.text) == (not document.findings)
    return document.findings


@pytest.mark.parametrize(
    "around",
    [
        "1.5 w 60 590 300 30 re S",
        "2 w 20 20 560 760 re S",
        "20 w 20 20 560 760 re s",
        "[0 9999] 0 d 30 w 60 603 m 300 603 l S",
        "q /Faint gs 0 0 612 792 re f Q",
        "q /Multiply gs 1 g 0 0 612 792 re f Q",
        "0 0 612 792 re 0 0 612 792 re f*",
        "0 0 m 612 792 l 612 793 l 0 1 l f",
        "0 0 m 612 0 l 612 1 l 1 1 l 1 792 l 0 792 l f",
        "q /None gs 612 0 0 792 0 0 cm /Im Do Q",
    ],
)
def test_white_text_in_a_frame_or_on_a_faint_area_is_hidden(around: str) -> None:
    assert judge(f"{around} 1 g {HIDDEN}") == (Finding("hidden", GROUND, N_HIDDEN, (1,)),)


@pytest.mark.parametrize(
    "ground",
    [
        f"q 0 g {ROTATED} f Q",
        "0 g 60 590 m 200 590 l 300 590 l 300 620 l 60 620 l h f",
        "0 g 60 590 m 60 600 60 610 60 620 c 300 620 l 300 600 300 590 v 60 590 60 590 y f",
        "40 w 60 600 m 200 604 l 300 600 l S",
        "40 w [50 1] 0 d 60 603 m 300 603 l S",
        "0 580 612 50 re 0 0 50 50 re f*",
        "q 0 580 300 50 re W n 0 0 0.4 rg 0 0 612 792 re f Q",
        "q 0.2 g /Almost gs 60 590 300 30 re f Q",
        "/Pattern cs /P scn 60 590 300 30 re f",
        "60 590 300 30 re B",
    ],
)
def test_white_text_on_a_dark_shape_is_seen(ground: str) -> None:
    assert judge(f"q {ground} Q 1 g {HIDDEN}") == ()


@pytest.mark.parametrize(
    "cover",
    [
        f"{ROTATED} f",
        "60 590 m 200 590 l 300 590 l 300 620 l 60 620 l h f",
        "60 590 m 120 590 200 590 300 590 c 300 620 l 60 620 l f",
        "40 w 60 600 m 200 604 l 300 600 l S",
        "60 w 60 600 300 4 re S",
        "/Almost gs 60 590 300 30 re f",
        "60 590 300 30 re f " + "0 0 5 5 re f " * 2001,
    ],
)
def test_text_under_any_shape_is_covered(cover: str) -> None:
    assert judge(f"{HIDDEN} q 1 g 1 G {cover} Q") == (Finding("hidden", "covered", N_HIDDEN, (1,)),)


@pytest.mark.parametrize(
    "over",
    [
        "/Pattern cs /P scn 60 590 300 30 re f",
        "1 g 60 590 300 30 re 60 590 300 30 re f*",
        "/Faint gs 1 g 60 590 300 30 re f",
        "/Multiply gs 1 1 0 rg 60 590 300 30 re f",
        "4 w 60 590 300 30 re S",
    ],
)
def test_text_under_what_lets_it_through_is_seen(over: str) -> None:
    assert judge(f"{HIDDEN} q {over} Q") == ()


@pytest.mark.parametrize(
    "clip",
    [
        "0 0 1 1 re 611 791 1 1 re W",
        "0 0 612 792 re 0 0 612 792 re W*",
        "0 0 m 612 792 l 612 792.5 l W",
        "0 600 m 612 600 l W",
    ],
)
def test_text_in_no_part_of_a_clip_is_clipped_away(clip: str) -> None:
    assert judge(f"q {clip} n {HIDDEN} Q")[0].what == "clipped away"


@pytest.mark.parametrize("clip", ["0 590 50 30 re 60 590 300 30 re W", "0 0 m 0 792 l 612 0 l W"])
def test_text_in_some_part_of_a_clip_is_seen(clip: str) -> None:
    assert judge(f"q {clip} n BT /F1 10 Tf 72 600 Td (hidden words) Tj ET Q") == ()


LONG = "BT /F1 10 Tf {} Td (hidden words that go on for long enough          .) Tj ET"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LONG.format("-233 600"), "off the page"),
        (f"q 301 590 90 30 re W n {LONG.format('72 600')} Q", "clipped away"),
        (f"{LONG.format('72 600')} 1 g 70 590 231 30 re f", "covered"),
    ],
)
def test_a_last_dot_does_not_save_a_run(content: str, reason: str) -> None:
    assert [finding.what for finding in judge(content)] == [reason]


@pytest.mark.parametrize("depth", [3, 12, 30, 60])
def test_text_of_forms_inside_forms_is_hidden_however_deep(depth: int) -> None:
    inner = "/XObject << /Fm {} 0 R >>"
    forms = [
        form("/Fm Do", f"/Resources << {inner.format(number)} >>") for number in range(7, 6 + depth)
    ]
    forms.append(form(f"1 g {HIDDEN}", FONT))
    document = parse_here(build(f"{SEEN} /Fm Do", resources=inner.format(6), extra=forms))
    assert document.text == "Seen."
    assert document.findings


def test_a_form_that_shows_itself_shows_nothing_there() -> None:
    own = form(f"1 g {HIDDEN} /Fm Do", FONT.replace("/Font", "/XObject << /Fm 6 0 R >> /Font"))
    document = parse_here(
        build(f"{SEEN} /Fm Do", resources="/XObject << /Fm 6 0 R >>", extra=[own])
    )
    assert (document.text, document.findings) == (
        "Seen.",
        (Finding("hidden", GROUND, N_HIDDEN, (1,)),),
    )


def test_many_areas_over_and_under_many_runs_take_a_moment() -> None:
    shown = f"0.2 g 60 590 300 30 re f {HIDDEN} " * 2000
    start = time.process_time()
    document = read(f"{SEEN} {shown}")
    assert (document.text, document.findings[0].count) == ("Seen.", 2000 * N_HIDDEN)
    assert time.process_time() - start < 10


LIGHT_BLENDS = (
    "Screen", "Lighten", "ColorDodge", "Overlay", "SoftLight", "Hue", "Saturation", "Color"
)  # fmt: skip


@pytest.mark.parametrize("color", ["0.4 g", "1 0 0 rg", "0.2 0.3 0.4 rg"])
@pytest.mark.parametrize("blend", LIGHT_BLENDS)
def test_no_ink_shows_on_white_paper_where_it_can_only_lighten(blend: str, color: str) -> None:
    states = f"/ExtGState << /G << /BM /{blend} >> >>"
    document = parse_here(build(f"{SEEN} /G gs {color} {HIDDEN}", resources=states))
    assert "hidden" not in document.text


@pytest.mark.parametrize("blend", ["Screen", "Lighten", "ColorDodge", "SoftLight", "Saturation"])
def test_light_ink_shows_on_a_dark_ground_where_it_lightens(blend: str) -> None:
    states = f"/ExtGState << /G << /BM /{blend} >> >>"
    content = f"q 0.3 0.2 0.4 rg 60 580 300 40 re f Q /G gs 1 0.8 0 rg {HIDDEN}"
    assert "hidden" in parse_here(build(f"{SEEN} {content}", resources=states)).text


@pytest.mark.parametrize("blend", ["Multiply", "Darken", "ColorBurn", "HardLight", "Luminosity"])
def test_dark_ink_shows_on_white_paper_where_it_darkens(blend: str) -> None:
    states = f"/ExtGState << /G << /BM /{blend} >> >>"
    for color, is_seen in (("0 g", True), ("1 g", False)):
        document = parse_here(build(f"{SEEN} /G gs {color} {HIDDEN}", resources=states))
        assert ("hidden" in document.text) == is_seen


BOX = form("1 g 60 590 300 30 re f").replace("0 0 612 792", "60 590 360 620")


@pytest.mark.parametrize(
    ("entries", "is_hidden"),
    [
        ("/Subtype /Square /AP << /N 6 0 R >>", True),
        ("/Subtype /Widget /AS /On /AP << /N << /On 6 0 R >> >>", True),
        ("/Subtype /Widget /AS /Off /AP << /N << /On 6 0 R >> >>", False),
        ("/Subtype /Square /F 2 /AP << /N 6 0 R >>", False),
        ("/Subtype /Square /F 32 /AP << /N 6 0 R >>", False),
        ("/Subtype /Popup /AP << /N 6 0 R >>", False),
        ("/Subtype /Highlight /AP << /N 6 0 R >>", False),
        ("/Subtype /Square", False),
        ("/Subtype /Square /AP << /N 7 0 R >>", False),
    ],
)
def test_what_annotations_show_covers_text(entries: str, is_hidden: bool) -> None:
    annotation = f"/Annots [<< /Rect [60 590 360 620] {entries} >>]"
    frame = BOX.replace("re f", "re S")
    document = parse_here(build(f"{SEEN} {HIDDEN}", page=annotation, extra=[BOX, frame]))
    assert [finding.what for finding in document.findings] == ["covered"] * is_hidden
    assert ("hidden" not in document.text) == is_hidden


def test_an_annotation_covers_where_it_stands() -> None:
    annotation = "/Annots [<< /Rect [0 0 30 30] /Subtype /Square /AP << /N 6 0 R >> >>]"
    assert parse_here(build(f"{SEEN} {HIDDEN}", page=annotation, extra=[BOX])).findings == ()


def test_a_group_is_blended_as_one() -> None:
    group = f"/Group << /S /Transparency >> {FONT}"
    resources = "/XObject << /Fm 6 0 R >> /ExtGState << /G << /BM /Screen >> >>"
    inner = form(
        f"/G gs {HIDDEN}", group.replace("/Font", "/ExtGState << /G << /BM /Normal >> >> /Font")
    )
    document = parse_here(build(f"{SEEN} /G gs /Fm Do", resources=resources, extra=[inner]))
    assert document.text == "Seen."


def test_numbers_too_large_to_multiply_hide_nothing_else() -> None:
    huge = "1" + "0" * 38
    content = (
        f"q {huge} 0 0 {huge} 0 0 cm " * 5 + f"-1 -1 m -{huge} -1 l -1 -{huge} l f " + "Q " * 5
    )
    document = read(f"{SEEN} {content} {HIDDEN.replace('hidden', 'more')}")
    assert document.text.split("\n\n") == ["Seen.", "more words"]
