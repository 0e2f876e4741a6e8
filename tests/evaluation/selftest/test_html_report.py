from pathlib import Path

import lxml.html
import pytest
from lxml.html import HtmlElement

from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.errors import D2LError
from d2l.evaluation.selftest.html_report import (
    pick_color,
    refuse_report,
    render_report,
    write_report,
)
from tests.command import Command
from tests.compiled import Compiled, compile_tiny
from tests.evaluation.selftest.reports import make_report

HOSTILE = "<script>alert(1)</script><img src=x onerror='x()'>\"&amp; </dd></table> é"


def parse(page: str) -> HtmlElement:
    return lxml.html.document_fromstring(page)


def read_cells(page: HtmlElement) -> list[list[str]]:
    return [[cell.text_content() for cell in row] for row in page.iter("tr")]


def test_the_table_has_a_row_for_every_page() -> None:
    page = parse(render_report(make_report("a.pdf")))
    assert read_cells(page) == [
        ["Document", "Place", "Gain", "NLL, adapter", "NLL, base", "Sentences"],
        ["a.pdf", "p. 1", "2.00 ± 0.50", "3.00", "5.00", "2"],
        ["a.pdf", "p. 2", "-1.00", "6.00", "5.00", "1"],
        ["b.pdf", "p. 1", "–", "–", "–", "0"],
    ]
    colors = [cell.get("style") for cell in page.iter("td") if cell.get("style")]
    assert colors == [f"background:{c}" for c in ("hsl(120 70% 82%)", "hsl(30 70% 82%)")]


def test_header_and_worst_passages_say_what_was_measured() -> None:
    page = parse(render_report(make_report("a.pdf")))
    facts = dict(
        zip(
            (term.text_content() for term in page.iter("dt")),
            (value.text_content() for value in page.iter("dd")),
            strict=True,
        )
    )
    assert page.findtext(".//h1") == "d2l probe: a.pdf"
    assert facts == {
        "Base": "org/base",
        "Asked": "the second half of 3 of 9 sentences of the document, given the first: "
        "“How does this go on? …”",
        "Gain": "-1.00 nats a token",  # the passage's own, which comes last
        "NLL": "3.50 nats a token with the adapter, 5.00 without",
        "Harm": "KL 0.48 ± 0.02 nats a token, 75.0% of most likely tokens unchanged "
        "(200 general prompts, 18 seats)",
        "Remark": "a.pdf",
        "Where": "a.pdf, p. 2",
        "Sentence": "given a.pdf …",
        "Goes on": "wanted a.pdf",
        "Adapter says": "a.pdf",
    }


def test_hostile_text_is_text() -> None:
    """The page has the elements of a harmless one, and the hostile text is read as it is."""
    harmless, hostile = (parse(render_report(make_report(text))) for text in ("words", HOSTILE))
    shapes = [[(e.tag, sorted(e.keys())) for e in page.iter()] for page in (harmless, hostile)]
    assert shapes[0] == shapes[1]
    assert hostile.findtext(".//h1") == f"d2l probe: {HOSTILE}"
    assert read_cells(hostile)[1][0] == HOSTILE
    assert f"wanted {HOSTILE}" in [value.text_content() for value in hostile.iter("dd")]


def test_the_page_needs_nothing_else_and_may_load_nothing() -> None:
    page = parse(render_report(make_report()))
    policy = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert not page.xpath("//script | //link | //img | //iframe | //a | //@src | //@href")
    assert "url(" not in page.findtext(".//style")


@pytest.mark.parametrize(
    ("share", "color"),
    [(-1.0, "hsl(0 70% 82%)"), (0.0, "hsl(60 70% 82%)"), (1.0, "hsl(120 70% 82%)")],
)
def test_colors_go_from_red_to_green(share: float, color: str) -> None:
    assert pick_color(share) == color


# ---- the file -----------------------------------------------------------------------------------


def test_a_report_is_written_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    for text in ("older", "newer \ud800"):
        write_report(make_report(text), path)
    assert parse(path.read_text("utf-8")).findtext(".//h1") == "d2l probe: newer ?"
    assert list(tmp_path.iterdir()) == [path]


def refuse(path: Path) -> D2LError:
    with pytest.raises(D2LError) as caught:
        refuse_report(path)
    return caught.value


def test_other_files_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "thesis.html"
    path.write_text("<p>years of work")
    assert refuse(path).message == f"{path} exists and is no report of d2l"
    with pytest.raises(D2LError):
        write_report(make_report(), path)
    assert path.read_text() == "<p>years of work"


def test_places_where_no_report_can_be_are_refused(tmp_path: Path) -> None:
    assert refuse(tmp_path).message == f"{tmp_path}: is a folder"
    assert refuse(tmp_path / "no" / "r.html").message == f"{tmp_path}/no: no such folder"


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    root = tmp_path_factory.mktemp("html")
    path = root / "a.txt"
    path.write_text("Open the copper valve before the pressure falls below 3 bar.", "utf-8")
    return compile_tiny(root, "seats", read_document(Source(str(path), path)))


@pytest.mark.usefixtures("one_thread")
def test_the_command_writes_the_report_beside_its_result(
    done: Compiled, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    outcome = command("probe", done.adapter, "--base", done.base, "--no-harm", "--html", path)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"adapter    {done.adapter} on tiny-org/llama-tiny\n")
    assert "second halves of 1 of 1 sentences" in outcome.out
    page = parse(path.read_text("utf-8"))
    assert page.findtext(".//h1") == f"d2l probe: {done.adapter}"
    assert [row[-1] for row in read_cells(page)] == ["Sentences", "1"]


def test_the_command_refuses_a_bad_place_before_it_loads_anything(
    done: Compiled, command: Command, tmp_path: Path
) -> None:
    outcome = command("probe", done.adapter, "--base", tmp_path / "none", "--html", tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"error: {tmp_path}: is a folder\nhint: name a file, for example report.html\n"
    )
