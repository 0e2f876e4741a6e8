import re

import pytest

from d2l.commands import heatmap
from d2l.commands.heatmap import draw_rows, fold_rows, show_harm, show_selftest
from d2l.evaluation.harm import Harm
from d2l.evaluation.means import Mean
from d2l.evaluation.selftest.passages import Passage
from d2l.evaluation.selftest.selftest import Recited, Row, SelfReport, SelfTest


def make_row(page: int, gain: float | None, n: int = 2, document: str = "a.pdf") -> Row:
    if gain is None:
        return Row(document, f"p. {page}", None, page, 0)
    return Row(document, f"p. {page}", None, page, n, 5.0, 5.0 - gain, Mean(n, gain, 0.1))


def make_report(*rows: Row, said: str = "said", harm: Harm | None = None) -> SelfReport:
    total = Row("", "total", None, None, 3, 5.0, 3.5, Mean(3, 1.5, 0.25))
    passage = Passage("a.pdf", 0, 2, "given words", "wanted words")
    worst = (Recited(passage, 5.0, 6.5, said),)
    return SelfReport("a.lora", "org/base", SelfTest(total, 9, (), rows, worst), harm, ())


def draw(*gains: float | None, width: int = 80, colored: bool = False) -> list[str]:
    rows = [make_row(n, gain) for n, gain in enumerate(gains, start=1)]
    return list(draw_rows(rows, several=False, width=width, colored=colored))


def test_bars_are_in_proportion_and_losses_look_otherwise() -> None:
    assert draw(4.0, 1.0, 0.0, -2.0, None) == [
        "p. 1  ████████████████████████   +4.00  (2)",
        "p. 2  ██████··················   +1.00  (2)",
        "p. 3  ························   +0.00  (2)",
        "p. 4  ░░░░░░░░░░░░············   -2.00  (2)",
        "p. 5  ························  no sentence asked",
    ]


def test_small_differences_look_small() -> None:
    assert [line.count("█") for line in draw(0.5, 0.25)] == [12, 6]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_lines_fit_the_terminal(width: int) -> None:
    row = make_row(1, 1.0, document="a document with a very long name indeed " * 4)
    (line,) = draw_rows([row], several=True, width=width, colored=False)
    assert len(line) <= max(width, 30)
    assert line.endswith("+1.00  (2)")


def test_colors_change_nothing_but_the_color() -> None:
    gains = (3.0, 0.0, -3.0, None)
    colored = draw(*gains, colored=True)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in colored] == draw(*gains)
    codes = [re.findall(r"\x1b\[38;5;(\d+)m", line) for line in colored]
    assert codes == [["28"], ["220"], ["160"], []]


def test_many_rows_are_folded_into_means_over_their_sentences() -> None:
    rows = [make_row(page, float(page), n=page) for page in range(1, 5)]
    rows += [make_row(1, None, document="b.pdf"), make_row(2, None, document="b.pdf")]
    first, second, third = fold_rows(rows, most=3)
    places = [row.place for row in (first, second, third)]
    assert places == ["p. 1 … p. 2", "p. 3 … p. 4", "p. 1 … p. 2"]
    assert first.gain is not None
    assert second.gain is not None
    assert first.gain.value == pytest.approx((1 * 1 + 2 * 2) / 3)
    assert second.gain.value == pytest.approx((3 * 3 + 4 * 4) / 7)
    assert (first.n, second.n, third.n, third.gain) == (3, 7, 0, None)
    assert fold_rows(rows, most=6) == rows


def test_totals_rows_and_worst_passages_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    harm = Harm(18, 0.48, 0.75, 200, 0.02, 0.01)
    report = make_report(make_row(1, 2.0), make_row(2, 1.0), harm=harm)
    show_selftest(report)
    show_harm(report)
    assert capsys.readouterr().out == (
        "adapter    a.lora on org/base\n"
        "self-test  second halves of 3 of 9 sentences\n"
        "gain       1.50 ± 0.25 nats a token over the base alone\n"
        "nll        3.50 with the adapter, 5.00 without\n"
        "\n"
        "gain by page, nats a token over the base alone (sentences asked)\n"
        "p. 1  ████████████████████████   +2.00  (2)\n"
        "p. 2  ████████████············   +1.00  (2)\n"
        "\n"
        "worst passages\n"
        "  -1.50  a.pdf, p. 2: given words …\n"
        "         wanted  wanted words\n"
        "         said    said\n"
        "\n"
        "harm       KL 0.48 ± 0.02 nats a token, 75.0% of most likely tokens unchanged "
        "(200 general prompts, 18 seats)\n"
    )


def test_controls_from_documents_and_models_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = Row("a.md", "§ \x1b[2J evil\r", 0, None, 1, 5.0, 4.0, Mean(1, 1.0, None))
    show_selftest(make_report(row, said="x\x1b]0;title\x07\ny\u202e"))
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07\r\u202e")
    assert "x\ufffd]0;title\ufffd y\ufffd" in out


@pytest.mark.parametrize(("setting", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colors_are_for_terminals_that_want_them(
    setting: dict[str, str], colored: bool, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(heatmap.sys.stdout, "isatty", lambda: True)
    show_selftest(make_report(make_row(1, 2.0)))
    assert ("\x1b[" in capsys.readouterr().out) is colored


def test_the_worst_are_few_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report(make_row(1, 2.0))
    worst = report.selftest.worst * 10
    test = SelfTest(report.selftest.total, 9, (), report.selftest.pages, worst)
    show_selftest(SelfReport("a.lora", "org/base", test, None, ()))
    assert capsys.readouterr().out.count("wanted words") == 3
