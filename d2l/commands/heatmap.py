"""What `d2l probe` prints of a self-test: a heat map of pages or chunks, and the worst passages.

A result in, lines on stdout out. Colors only underline what blocks and numbers say, and only on a
terminal.
"""

import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence

from d2l.commands import console
from d2l.evaluation.means import Mean
from d2l.evaluation.selftest.questions import Answered, group_by_place
from d2l.evaluation.selftest.selftest import Recited, Row, SelfReport, scale_of

#: More rows than this are no picture any more.
_MOST_ROWS = 60
_BAR = 24  # cells of a bar, where there is room for them
_LABEL = 40  # most characters of a label
_EIGHTHS = " ▏▎▍▌▋▊▉█"
#: From the largest loss over no gain to the largest gain (xterm's 256 colors).
_COLORS = (160, 202, 214, 220, 148, 71, 28)
#: Worst passages shown on a terminal; `--json` and `--html` have all.
_SHOWN = 3


def show_selftest(report: SelfReport) -> None:
    """Print totals, one row a page (or chunk) with its gain, and the worst passages; harm, which
    takes longer to measure, is printed by `show_harm`."""
    _show_totals(report)
    console.result("")
    test = report.selftest
    several = len({row.document for row in test.rows}) > 1
    what = "page" if test.pages else "chunk"
    console.result(f"gain by {what}, nats a token over the base alone (sentences asked)")
    rows = fold_rows(test.rows, most=_MOST_ROWS)
    for line in draw_rows(rows, several=several, width=_width(), colored=_colored()):
        console.drawn(line)
    console.result("")
    console.result("worst passages")
    for recited in test.worst[:_SHOWN]:
        _show_passage(recited)
    if report.answered:
        _show_answered(report.answered)


def _show_totals(report: SelfReport) -> None:
    test = report.selftest
    total = test.total
    console.result(f"adapter    {report.adapter} on {report.base}")
    console.result(f"self-test  second halves of {total.n} of {test.n_sentences} sentences")
    console.result(f"gain       {total.gain} nats a token over the base alone")
    console.result(
        f"nll        {total.adapter_nll:.2f} with the adapter, {total.base_nll:.2f} without"
    )


def _show_answered(answered: Sequence[Answered]) -> None:
    """How many questions of the writer were answered, page by page, and the first that were not."""
    console.result("")
    n_right = sum(one.contained for one in answered)
    console.result(f"questions  {n_right} of {len(answered)} answered")
    for place, own in group_by_place(answered).items():
        right = sum(one.contained for one in own)
        console.result(f"  {clean(place)}: {right} of {len(own)}")
    for one in [one for one in answered if not one.contained][:_SHOWN]:
        console.result(f"  ? {clean(one.asked.question)}")
        console.result(f"         wanted  {clean(one.asked.answer)}")
        console.result(f"         said    {clean(one.said)}")


def show_harm(report: SelfReport) -> None:
    """Print what the adapter does to other answers, where that was measured."""
    harm = report.harm
    if harm is not None:
        console.result("")
        seats = "" if harm.seats is None else f", {harm.seats} seats"
        kl = Mean(harm.n, harm.kl, harm.kl_stderr)
        console.result(
            f"harm       KL {kl} nats a token, {harm.unchanged:.1%} of most likely tokens "
            f"unchanged ({harm.n} general prompts{seats})"
        )


def fold_rows(rows: Sequence[Row], *, most: int) -> list[Row]:
    """Join neighbors of a document until at most about `most` rows are left."""
    step = math.ceil(len(rows) / most)
    if step <= 1:
        return list(rows)
    documents = list(dict.fromkeys(row.document for row in rows))
    own = [[row for row in rows if row.document == document] for document in documents]
    return [_join(group[n : n + step]) for group in own for n in range(0, len(group), step)]


def _join(rows: Sequence[Row]) -> Row:
    """One row for several: means over all of their passages."""
    first, last = rows[0], rows[-1]
    place = first.place if len(rows) == 1 else f"{first.place} … {last.place}"
    full = [(row, row.gain) for row in rows if row.gain is not None]
    n = sum(row.n for row, _ in full)
    if not n:
        return Row(first.document, place, first.chunk, first.page, 0)
    gain = math.fsum(row.n * mean.value for row, mean in full) / n
    base, adapter = (
        math.fsum(row.n * value for row, value in pairs if value is not None) / n
        for pairs in (
            [(row, row.base_nll) for row, _ in full],
            [(row, row.adapter_nll) for row, _ in full],
        )
    )
    return Row(
        first.document, place, first.chunk, first.page, n, base, adapter, Mean(n, gain, None)
    )


def draw_rows(rows: Sequence[Row], *, several: bool, width: int, colored: bool) -> Iterator[str]:
    """One line a row: label, bar, gain, n. `several` puts the document before the place.

    Bars show the size of gains (full blocks) and losses (shaded), see `scale_of`.
    """
    scale = scale_of(rows)
    labels = [clean(f"{row.document}: {row.place}" if several else row.place) for row in rows]
    numbers = [_describe_row(row) for row in rows]
    right = max(map(len, numbers), default=0)
    bar = max(min(_BAR, width - right - 12), 4)
    room = max(min(_LABEL, width - right - bar - 4), 6)
    left = min(max(map(len, labels), default=0), room)
    for row, label, number in zip(rows, labels, numbers, strict=True):
        share = 0.0 if row.gain is None else row.gain.value / scale
        cells = _draw_bar(share, bar)
        if colored and row.gain is not None:
            cells = f"\x1b[38;5;{_pick_color(share)}m{cells}\x1b[0m"
        yield f"{_shorten(label, left):<{left}}  {cells}  {number}".rstrip()


def _draw_bar(share: float, width: int) -> str:
    """`share`, from -1 to 1, of the width: a gain in eighths of a cell, a loss shaded."""
    if share < 0:
        drawn = "░" * round(-share * width)
    else:
        full, rest = divmod(round(share * width * 8), 8)
        drawn = "█" * full + (_EIGHTHS[rest] if rest else "")
    return drawn + "·" * (width - len(drawn))


def _pick_color(share: float) -> int:
    return _COLORS[round((share + 1) / 2 * (len(_COLORS) - 1))]


def _describe_row(row: Row) -> str:
    if row.gain is None:
        return "no sentence asked"
    return f"{row.gain.value:+6.2f}  ({row.n})"


def _show_passage(recited: Recited) -> None:
    passage = recited.passage
    place = passage.document if passage.page is None else f"{passage.document}, p. {passage.page}"
    console.result(f"  {recited.gain:+.2f}  {clean(place)}: {clean(passage.given)} …")
    console.result(f"         wanted  {clean(passage.wanted)}")
    console.result(f"         said    {clean(recited.said or '')}")


def clean(text: str) -> str:
    """One line without controls: documents may hold what moves the cursor of a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def _shorten(label: str, width: int) -> str:
    return label if len(label) <= width else label[: width - 1] + "…"


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 100


def _colored() -> bool:
    """Whether stdout wants colors (no-color.org)."""
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )
