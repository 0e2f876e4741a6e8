"""A self-test as one HTML file that needs nothing else: no scripts, no fonts, no network.

Everything that comes from documents and models is escaped, and the page forbids itself to load or
run anything, so that a document cannot do what its author wants in the reader's browser.
"""

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from d2l import __version__
from d2l.errors import D2LError
from d2l.evaluation.means import Mean
from d2l.evaluation.selftest.selftest import WORDING, Recited, Row, SelfReport, scale_of
from d2l.files.atomic import replace_file

#: Marks a file as one of ours, which may be replaced.
_GENERATOR = '<meta name="generator" content="d2l probe">'
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1c2430; background: #fff; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #dde2e8; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content auto; gap: .2rem 1rem; }
dt { color: #5b6673; } dd { margin: 0; }
.passage { border: 1px solid #dde2e8; border-radius: .4rem; padding: .6rem 1rem; margin: 1rem 0; }
.note { color: #5b6673; }
"""


def refuse_report(path: Path) -> None:
    """Raise D2LError where a report cannot go: a folder, or a file that is no report of ours."""
    if path.is_dir():
        raise D2LError(f"{path}: is a folder", hint="name a file, for example report.html")
    if not path.parent.is_dir():
        raise D2LError(f"{path.parent}: no such folder", hint="make it first, or choose another")
    if path.exists() and _GENERATOR.encode() not in _read_head(path):
        raise D2LError(
            f"{path} exists and is no report of d2l", hint="choose another name for the report"
        )


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1000)
    except OSError as error:
        raise D2LError(f"{path}: cannot be read ({error.strerror})") from error


def write_report(report: SelfReport, path: Path) -> None:
    """Write the report, whole or not at all; one that is there is replaced. Raises D2LError."""
    refuse_report(path)
    page = render_report(report).encode("utf-8", "replace")
    try:
        replace_file(path, lambda target: target.write_bytes(page))
    except OSError as error:
        raise D2LError(
            f"{path}: cannot be written ({error.strerror})",
            hint="choose a place that has room and that you may write to",
        ) from error


def render_report(report: SelfReport) -> str:
    """The page as text."""
    title = escape(f"d2l probe: {report.adapter}")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            _GENERATOR,
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{title}</h1>",
            *_render_totals(report),
            *_render_places(report),
            *_render_worst(report.selftest.worst),
            f'<p class="note">Made by d2l {escape(__version__)}.</p>\n</body>\n</html>\n',
        ]
    )


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
    yield "<dl>"
    yield from (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    yield "</dl>"
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


def pick_color(gain: Mean | None, scale: float) -> str:
    """Background of a gain: red at a loss of `scale`, yellow at 0, green at a gain of `scale`;
    light enough for dark text. White without a gain."""
    return "#fff" if gain is None else f"hsl({round(60 + 60 * gain.value / scale)} 70% 82%)"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
