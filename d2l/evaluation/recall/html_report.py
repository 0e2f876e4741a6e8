"""A recall report as one HTML file: what came back arm by arm, false answers and silences, harm.

Everything that comes from files and models is escaped.
"""

from collections.abc import Iterator, Sequence
from html import escape

from d2l.evaluation.html_page import render_facts, render_page
from d2l.evaluation.means import Mean
from d2l.evaluation.recall.report import Probe, Row, describe_count, describe_gain, name_arm

_SCORES = {"contained": "contained", "em": "exact match", "f1": "F1", "nll": "NLL"}
_SILENCE = {"false_answers": "False answers", "false_silences": "False silences"}
_WHAT = ("Set", "Length", "Arm")


def render_recall(found: Probe, subject: str) -> str:
    """The page as text; `subject` is what was probed: an adapter, or a network and its sets."""
    return render_page(subject, _render(found))


def _render(found: Probe) -> Iterator[str]:
    if found.rows:
        columns = ("Questions", *_SCORES.values())
        yield "<h2>Questions that the document answers</h2>"
        yield _render_table(
            columns,
            [
                (*_name(row), str(row["n"]), *(_mean(row, key) for key in _SCORES))
                for row in found.rows
            ],
        )
    if found.silence:
        yield "<h2>Questions that the document does not answer</h2>"
        yield _render_table(
            tuple(_SILENCE.values()),
            [
                (*_name(row), *(describe_count(row[key]) for key in _SILENCE))
                for row in found.silence
            ],
        )
        yield (
            '<p class="note">False answers: of the questions that the document does not answer, '
            "those that were answered all the same. False silences: of those that it does answer, "
            "those to which the answer was that there is none.</p>"
        )
    harm = found.harm or {}
    facts = [("Refined", describe_gain(row)) for row in found.rows if "refined" in row]
    facts += [("Harm", _describe_harm(one)) for one in harm.get("by_seats", [harm] if harm else [])]
    facts += [("Remark", remark) for remark in found.remarks]
    if facts:
        yield render_facts(facts)
    yield '<p class="note">± is one standard error.</p>'


def _name(row: Row) -> tuple[str, str, str]:
    length = "?" if row["length"] is None else f"{row['length']:,}"
    return row["set"], length, name_arm(row)


def _mean(row: Row, key: str) -> str:
    return str(Mean(row["n"], row[key], row["stderr"][key]))


def _describe_harm(harm: Row) -> str:
    seats = "" if harm["seats"] is None else f" at {harm['seats']} seats"
    kl = Mean(harm["n"], harm["kl"], harm["stderr"]["kl"])
    return (
        f"KL {kl} nats a token{seats}, {harm['unchanged']:.1%} of most likely tokens unchanged, "
        f"on {harm['n']} general prompts"
    )


def _render_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first columns are texts, and all others numbers."""
    head = "".join(f"<th>{escape(name)}</th>" for name in _WHAT)
    head += "".join(f'<th class="number">{escape(name)}</th>' for name in columns)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[: len(_WHAT)])
        cells += "".join(f'<td class="number">{escape(c)}</td>' for c in row[len(_WHAT) :])
        lines.append(f"<tr>{cells}</tr>")
    body = "\n".join(lines)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
