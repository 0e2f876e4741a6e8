"""A self-test as one HTML file: totals, pages or chunks by gain, and the worst passages.

Everything that comes from documents and models is escaped.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from d2l.evaluation.html_page import render_facts, render_page, write_page
from d2l.evaluation.means import Mean
from d2l.evaluation.selftest.questions import Answered, group_by_place
from d2l.evaluation.selftest.selftest import WORDING, Recited, Row, SelfReport, scale_of


def write_report(report: SelfReport, path: Path) -> None:
    """Write the report, whole or not at all; one that is there is replaced. Raises D2LError."""
    write_page(render_report(report), path)


def render_report(report: SelfReport) -> str:
    """The page as text."""
    body = (
        *_render_totals(report),
        *_render_places(report),
        *_render_worst(report.selftest.worst),
        *_render_answered(report.answered),
    )
    return render_page(report.adapter, body)


def _render_totals(report: SelfReport) -> Iterator[str]:
    test, harm = report.selftest, report.harm
    asked = f"{test.total.n} of {test.n_sentences} sentences of the document"
    facts = [
        ("Base", report.base),
        ("Asked", f"the second half of {asked}, given the first: “{WORDING.format('…')}”"),
        ("Gain", f"{test.total.gain} nats a token over the base alone"),
        (
            "NLL",
            f"{_number(test.total.adapter_nll)} nats a token with the adapter, "
            f"{_number(test.total.base_nll)} without",
        ),
    ]
    if harm is not None:
        seats = "" if harm.seats is None else f" at {harm.seats} seats"
        kl = Mean(harm.n, harm.kl, harm.kl_stderr)
        facts.append(
            (
                "Harm",
                f"KL {kl} nats a token{seats}, {harm.unchanged:.1%} of most likely tokens "
                f"unchanged, on {harm.n} general prompts",
            )
        )
    facts += [("Remark", remark) for remark in report.remarks]
    yield render_facts(facts)
    yield (
        '<p class="note">Gain: how much better the adapter expects the words that follow than the '
        "base without it. 0 is nothing remembered; below 0 the adapter is in the way. ± is one "
        "standard error.</p>"
    )


def _render_places(report: SelfReport) -> Iterator[str]:
    test = report.selftest
    rows = test.rows
    several = len({row.document for row in rows}) > 1
    scale = scale_of(rows)
    yield f"<h2>{'Pages' if test.pages else 'Chunks'}</h2>\n<table>\n<thead><tr>"
    yield "<th>Document</th>" if several else ""
    yield (
        '<th>Place</th><th class="number">Gain</th><th class="number">NLL, adapter</th>'
        '<th class="number">NLL, base</th><th class="number">Sentences</th></tr></thead>\n<tbody>'
    )
    for row in rows:
        yield _render_place(row, scale=scale, several=several)
    yield "</tbody>\n</table>"


def _render_place(row: Row, *, scale: float, several: bool) -> str:
    numbers = [_number(row.adapter_nll), _number(row.base_nll), str(row.n)]
    return "".join(
        [
            "<tr>",
            f"<td>{escape(row.document)}</td>" if several else "",
            f"<td>{escape(row.place)}</td>",
            f'<td class="number" style="background:{pick_color(row.gain, scale)}">'
            f"{'–' if row.gain is None else row.gain}</td>",
            *(f'<td class="number">{number}</td>' for number in numbers),
            "</tr>",
        ]
    )


def _render_worst(worst: Iterable[Recited]) -> Iterator[str]:
    yield "<h2>Worst passages</h2>"
    for recited in worst:
        passage = recited.passage
        page = "" if passage.page is None else f", p. {passage.page}"
        yield '<div class="passage"><dl>'
        for name, value in (
            ("Where", f"{passage.document}{page}"),
            ("Gain", f"{recited.gain:+.2f} nats a token"),
            ("Sentence", f"{passage.given} …"),
            ("Goes on", passage.wanted),
            ("Adapter says", recited.said or "(nothing)"),
        ):
            yield f"<dt>{name}</dt><dd>{escape(value)}</dd>"
        yield "</dl></div>"


def _render_answered(answered: Sequence[Answered]) -> Iterator[str]:
    """Every question of the writer, page by page, with what the adapter said."""
    if not answered:
        return
    n_right = sum(one.contained for one in answered)
    yield f"<h2>Questions: {n_right} of {len(answered)} answered</h2>"
    for place, own in group_by_place(answered).items():
        right = sum(one.contained for one in own)
        yield f"<h3>{escape(place)}: {right} of {len(own)}</h3>\n<table>\n<thead><tr>"
        yield "<th>Question</th><th>Answer</th><th>Adapter says</th></tr></thead>\n<tbody>"
        for one in own:
            color = pick_color(Mean(1, 1.0 if one.contained else -1.0, None), 1.0)
            yield (
                f"<tr><td>{escape(one.asked.question)}</td><td>{escape(one.asked.answer)}</td>"
                f'<td style="background:{color}">{escape(one.said or "(nothing)")}</td></tr>'
            )
        yield "</tbody>\n</table>"


def pick_color(gain: Mean | None, scale: float) -> str:
    """Background of a gain: red at a loss of `scale`, yellow at 0, green at a gain of `scale`;
    light enough for dark text. White without a gain."""
    return "#fff" if gain is None else f"hsl({round(60 + 60 * gain.value / scale)} 70% 82%)"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
