"""Functions say which color an ink has, so that white is white in every ink."""

from collections.abc import Sequence

import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, NumberObject

from d2l.documents.readers.pdf.functions import evaluate, run_program
from tests.documents.readers.pdf.test_visible import HIDDEN, SEEN, build
from tests.documents.samples import parse_here


@pytest.mark.parametrize(
    ("program", "inputs", "outputs"),
    [
        ("{ pop 1 }", [0.3], [1]),
        ("{ 1 exch sub dup }", [0.25], [0.75, 0.75]),
        ("{ 3 1 roll }", [1, 2, 3], [3, 1, 2]),
        ("{ 3 -1 roll }", [1, 2, 3], [2, 3, 1]),
        ("{ 1 index 2 copy }", [1, 2], [1, 2, 1, 2, 1]),
        ("{ dup 0.5 gt { pop 1 } { 2 mul } ifelse }", [0.25], [0.5]),
        ("{ dup 0.5 gt true and { pop 1 } if } % done", [0.75], [1]),
        ("{ 7 2 idiv 7 2 mod 2 3 exp }", [], [3, 1, 8]),
    ],
)
def test_programs(program: str, inputs: Sequence[float], outputs: Sequence[float]) -> None:
    assert run_program(program, inputs) == outputs


@pytest.mark.parametrize(
    "program", ["", "{ pop pop }", "{ 0 div }", "{ no }", "{ { { 1", "{ 9 copy }"]
)
def test_broken_programs_give_no_color(program: str) -> None:
    function = DecodedStreamObject()
    function[NameObject("/FunctionType")] = NumberObject(4)
    function.set_data(program.encode())
    assert evaluate(function, [1.0]) is None
    assert evaluate(DictionaryObject(), [1.0]) is None


def stream(entries: str, content: str) -> str:
    return f"<< {entries} /Length {len(content)} >>\nstream\n{content}\nendstream"


FLAT = "<< /FunctionType 2 /Domain [0 1] /N 1 /C0 [1] /C1 [%s] >>"
PARTS = "<< /FunctionType 3 /Domain [0 1] /Bounds [0.5] /Encode [0 1 0 1] /Functions [%s %s] >>"
TABLE = "/FunctionType 0 /Domain [0 1] /Range [0 1] /Size [2] /BitsPerSample 8"
PROGRAM = "/FunctionType 4 /Domain [0 1] /Range [0 1]"


@pytest.mark.parametrize(
    ("space", "function", "is_hidden"),
    [
        ("[/Separation /Spot /DeviceGray 6 0 R]", stream(TABLE, "zÿ"), True),
        ("[/Separation /Spot /DeviceGray 6 0 R]", stream(TABLE, "ÿz"), False),
        ("[/Separation /Spot /DeviceGray 6 0 R]", PARTS % (FLAT % "0", FLAT % "1"), True),
        ("[/Separation /Spot /DeviceGray 6 0 R]", PARTS % (FLAT % "1", FLAT % "0"), False),
        ("[/Separation /Spot /DeviceGray 6 0 R]", stream(PROGRAM, "{ pop 1 }"), True),
        ("[/Separation /Spot /DeviceGray 6 0 R]", stream(PROGRAM, "{ 1 exch sub }"), False),
        ("[/DeviceN [/A] /DeviceGray 6 0 R]", stream(PROGRAM, "{ pop 1 }"), True),
        ("[/DeviceN [/A] /DeviceGray 6 0 R]", stream(PROGRAM, "{ 1 exch sub }"), False),
        ("[/Separation /None /DeviceGray 6 0 R]", stream(PROGRAM, "{ 1 exch sub }"), True),
        ("[/DeviceN [/None] /DeviceGray 6 0 R]", stream(PROGRAM, "{ 1 exch sub }"), True),
        ("[/Separation /Spot /DeviceGray 6 0 R]", stream(PROGRAM, "{ broken"), False),
    ],
)
def test_white_inks_are_white(space: str, function: str, is_hidden: bool) -> None:
    resources = f"/ColorSpace << /CS0 {space} >>"
    data = build(f"{SEEN} /CS0 cs 1 scn {HIDDEN}", resources=resources, extra=[function])
    assert ("hidden" not in parse_here(data).text) == is_hidden
