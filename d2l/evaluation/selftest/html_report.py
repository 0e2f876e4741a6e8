"""A self-test as one HTML file: totals, pages or chunks by gain, the worst passages, questions.

The page needs no scripts, fonts or network. Text from documents and models is escaped, and the page
forbids itself to load or run anything, so that a document cannot act in the reader's browser.
"""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from d2l.errors import D2LError
from d2l.evaluation.harm import describe_harm
from d2l.evaluation.metrics import show_mean
from d2l.evaluation.selftest.questions import AnsweredQuestion, group_by_place
from d2l.evaluation.selftest.selftest import WORDING, Recited, SelfReport, SelfTest
from d2l.files.atomic import replace_file
from d2l.version import __version__

#: Marks a file as a report of d2l, which may be replaced.
_GENERATOR = '<meta name="generator" content="d2l probe">'
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1c2430; background: #fff; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #dde2e8; }
dl { display: grid; grid-template-columns: max-content auto; gap: .2rem 1rem; }
dt, .note { color: #5b6673; } dd { margin: 0; }
"""


def refuse_report(path: Path) -> None:
    """Raise D2LError where a report cannot go: a folder, or a file that is no report of ours."""
    if path.is_dir():
        raise D2LError(f"{path}: is a folder", hint="name a file, for example report.html")
    if not path.parent.is_dir():
        raise D2LError(f"{path.parent}: no such folder", hint="make it first, or choose another")
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            head = file.read(1000)
    except OSError as error:
        raise D2LError(f"{path}: cannot be read ({error.strerror})") from error
    if _GENERATOR.encode() not in head:
        raise D2LError(
            f"{path} exists and is no report of d2l", hint="choose another name for the report"
        )


def write_report(report: SelfReport, path: Path) -> None:
    """Write the report, whole or not at all, over an earlier report. Raises D2LError."""
    refuse_report(path)
    page = render_report(report).encode("utf-8", "replace")
    try:
        replace_file(path, lambda target: target.write_bytes(page))
    except OSError as error:
        raise D2LError(
            f"{path}: cannot be written ({error.strerror})",
            hint="choose a folder with free space that you may write to",
        ) from error


def render_report(report: SelfReport) -> str:
    """The page as text."""
    title = escape(f"d2l probe: {report.adapter}")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    lines = [
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{_GENERATOR}',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>",
        _render_totals(report),
        _render_places(report.selftest),
        "<h2>Worst passages</h2>",
        *map(_render_passage, report.selftest.worst),
        *_render_answered(report.answered),
        f'<p class="note">Made by d2l {escape(__version__)}.</p>\n</body>\n</html>\n',
    ]
    return "\n".join(lines)


def _render_totals(report: SelfReport) -> str:
    test, total = report.selftest, report.selftest.total
    facts = [
        ("Base", report.base),
        (
            "Asked",
            f"the second half of {total['n']} of {test.n_sentences} sentences of the document, "
            f"given the first: “{WORDING.format('…')}”",
        ),
        ("Gain", f"{show_mean(total['gain'], total['stderr'])} nats a token over the base alone"),
        (
            "NLL",
            f"{total['adapter_nll']:.2f} nats a token with the adapter, {total['base_nll']:.2f} "
            "without",
        ),
    ]
    if report.harm is not None:
        facts.append(("Harm", describe_harm(report.harm)))
    facts += [("Remark", remark) for remark in report.remarks]
    return _render_facts(facts) + (
        '\n<p class="note">Gain: how much better the adapter expects the words that follow than '
        "the base without it. 0 is nothing remembered; below 0 the adapter is in the way. ± is one "
        "standard error.</p>"
    )


def _render_places(test: SelfTest) -> str:
    rows = test.pages or test.chunks
    scale = max([1.0, *(abs(row["gain"]) for row in rows if row["n"])])
    cells = []
    for row in rows:
        names, n = [row["document"], row["place"]], str(row["n"])
        if not row["n"]:
            cells.append(_render_cells([*names, "–", "–", "–", n]))
            continue
        numbers = [f"{row['adapter_nll']:.2f}", f"{row['base_nll']:.2f}", n]
        gain = show_mean(row["gain"], row["stderr"])
        cells.append(_render_cells([*names, gain, *numbers], 2, pick_color(row["gain"] / scale)))
    columns = ("Document", "Place", "Gain", "NLL, adapter", "NLL, base", "Sentences")
    return _render_table("Pages" if test.pages else "Chunks", columns, cells)


def _render_passage(recited: Recited) -> str:
    passage = recited.passage
    page = "" if passage.page is None else f", p. {passage.page}"
    facts = [
        ("Where", f"{passage.document}{page}"),
        ("Gain", f"{recited.gain:+.2f} nats a token"),
        ("Sentence", f"{passage.given} …"),
        ("Goes on", passage.wanted),
        ("Adapter says", recited.said or "(nothing)"),
    ]
    return _render_facts(facts)


def _render_answered(answered: Sequence[AnsweredQuestion]) -> Iterator[str]:
    """Every question of the writer, page by page, with the adapter's answer."""
    if answered:
        n_right = sum(answer.contained for answer in answered)
        yield f"<h2>Questions: {n_right} of {len(answered)} right</h2>"
    for place, own in group_by_place(answered).items():
        cells = []
        for answer in own:
            texts = [answer.asked.question, answer.asked.answer, answer.said or "(nothing)"]
            cells.append(_render_cells(texts, 2, pick_color(1.0 if answer.contained else -1.0)))
        title = f"{place}: {sum(answer.contained for answer in own)} of {len(own)}"
        yield _render_table(title, ("Question", "Answer", "Adapter says"), cells)


def pick_color(share: float) -> str:
    """Background for a gain: red at -1, yellow at 0, green at 1; light enough for dark text."""
    return f"hsl({round(60 + 60 * share)} 70% 82%)"


def _render_facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f"<dl>\n{rows}\n</dl>"


def _render_table(title: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "\n".join(rows)
    return f"<h2>{escape(title)}</h2>\n<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _render_cells(texts: Sequence[str], colored: int = -1, color: str = "") -> str:
    """A row of a table; the cell of number `colored` has a background."""
    style = f' style="background:{color}"'
    cells = [
        f"<td{style if n == colored else ''}>{escape(text)}</td>" for n, text in enumerate(texts)
    ]
    return f"<tr>{''.join(cells)}</tr>"
