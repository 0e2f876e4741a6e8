"""Rows of benchmarks → means by cell and arm, pictures, and figures of others beside them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from d2l.errors import D2LError, ProbeError
from d2l.evaluation.bench.published import list_reported
from d2l.evaluation.metrics import Row, published_f1, take_mean, take_means
from d2l.evaluation.recall.report import ARMS, draw_recall
from d2l.files.atomic import write_file
from d2l.files.plots import check_picture, load_figure, save_picture

#: What the lines of a benchmark's picture show: keys of its rows with their names for people.
_LINES = {
    "squad": (("tokens", "tokens of the document"), ("f1", "F1")),
    "phonebook": (("entries", "names in the phone book"), ("contained", "numbers that are right")),
    "harm": (("tokens", "tokens of the document"), ("kl", "KL of general answers, nats a token")),
}
#: How a report begins as JSON.
_HEAD = b'{\n "bench": '
#: What the whole run has in common.
_FACTS = ("network", "network_sha256", "base", "device", "dtype", "options", "versions")
#: Scores of harm, which come as means already.
_HARM = ("n", "kl", "unchanged", "stderr")


def make_report(bench: str, rows: Sequence[Row]) -> Row:
    """What a benchmark prints with `--json`: facts of the run, means of each cell and arm, and what
    others report. Raises ProbeError where no arm was asked."""
    facts = {key: rows[0][key] for key in _FACTS}
    others = list_reported(bench, facts["network"])
    summed = list(sum_up(rows))
    if not summed:
        raise ProbeError(
            "there was nothing to ask in these arms",
            hint="documents of one chunk have no parts: name other arms, or longer documents",
        )
    return {"bench": bench, **facts, "rows": summed, "others": others}


def refuse_report(out: Path) -> None:
    """Raise D2LError where a file stands that is no report of a benchmark."""
    if out.exists() and not (out.is_file() and out.read_bytes().startswith(_HEAD)):
        raise D2LError(f"{out} exists and is no report of d2l bench", hint="choose another name")


def write_report(report: Row, out: Path) -> None:
    """Write a report as JSON, over an earlier one; raises D2LError."""
    text = json.dumps(report, indent=1) + "\n"
    write_file(out, lambda path: path.write_text(text, "utf-8"), partial(refuse_report, out))


def sum_up(rows: Sequence[Row], leave_out: str = "") -> Iterator[Row]:
    """A row for each cell and arm, in order. `leave_out` is a key of cells that is summed over.

    Times are medians: `compile_seconds` of a document, `seconds` of a question. Memory is the most.
    `relative` is F1 relative to the document in the prompt.
    """
    cells: dict[str, list[Row]] = {}
    for row in rows:
        cell = {key: value for key, value in row["cell"].items() if key != leave_out}
        cells.setdefault(json.dumps(cell), []).append(row)
    for text, members in cells.items():
        summed = {
            arm: _sum_up_arm(json.loads(text), arm, asked)
            for arm in ARMS
            if (asked := [row for row in members if arm in row["arms"]])
        }
        of_prompt = summed.get("prompt", {}).get("f1")
        for row in summed.values():
            yield row | ({"relative": row["f1"] / of_prompt} if of_prompt else {})


def _sum_up_arm(cell: Row, arm: str, rows: Sequence[Row]) -> Row:
    measured, compiled = [row["arms"][arm] for row in rows], [row["compile"] for row in rows]
    marked = [
        (question, question["answers"][arm])
        for row in rows
        for question in row["questions"]
        if arm in question.get("answers", ())
    ]
    scores = {key: measured[0][key] for key in _HARM if key in measured[0]}
    if marked:
        samples = {key: [mark[key] for _, mark in marked] for key in ("contained", "em", "nll")}
        samples["f1"] = [published_f1(mark["answer"], q["wanted"]) for q, mark in marked]
        scores = {"n": len(marked), **take_means(samples)}
    summed = {
        **cell,
        "arm": arm,
        "documents": len(rows),
        **{key: take_mean([row[key] for row in rows])[0] for key in ("tokens", "chunks", "rank")},
        **scores,
        "cut": sum(row.get("cut", 0) for row in measured),
        "adapter_bytes": max(row["adapter_bytes"] for row in rows),
        "parts_bytes": max(row["parts_bytes"] for row in rows),
        "compile_seconds": median(row["seconds"] for row in compiled),
        "seconds": median(row["seconds"] for row in measured),
    }
    for key in ("peak_bytes", "extra_bytes"):
        summed[f"compile_{key}"] = _most(row[key] for row in compiled)
        summed[key] = _most(row[key] for row in measured)
    if "entries" in cell and arm in ("adapter", "routed"):
        megabytes = (summed["adapter_bytes"] + (arm == "routed") * summed["parts_bytes"]) / 1e6
        n_tokens, _ = take_mean([question["n_tokens"] for question, _ in marked])
        summed["held"] = summed["contained"] * cell["entries"]
        summed["held_per_megabyte"] = summed["held"] / megabytes
        summed["tokens_per_megabyte"] = summed["held_per_megabyte"] * n_tokens
    return summed


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def draw_bench(report: Row, out: Path) -> Path:
    """Draw a report: needles as a map of each arm, others as lines; raises D2LError."""
    if report["bench"] == "niah":
        return _draw_maps(report, out)
    across, up = _LINES[report["bench"]]
    return draw_recall(report["rows"], out, across=across, up=up)


def _draw_maps(report: Row, out: Path) -> Path:
    """Shares of right answers by length and depth, a map an arm; gray where it was not asked."""
    check_picture(out)
    rows = report["rows"]
    bins = sorted({(row["from"], row["to"]) for row in rows})
    depths = sorted({row["depth"] for row in rows})
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    size = (max(7, 0.5 * len(bins) + 2), (0.25 * len(depths) + 0.9) * len(arms) + 1.1)
    figure = load_figure()(figsize=size, layout="constrained")
    axes = figure.subplots(len(arms), sharex=True, squeeze=False)[:, 0]
    for arm, ax in zip(arms, axes, strict=True):
        own = [row for row in rows if row["arm"] == arm]
        shares = {(row["from"], row["depth"]): row["contained"] for row in own}
        grid = [[shares.get((low, depth), float("nan")) for low, _ in bins] for depth in depths]
        image = ax.pcolormesh(grid, vmin=0, vmax=1, cmap="viridis", edgecolors="white")
        ax.set_facecolor("lightgray")
        ax.set_title(ARMS[arm], fontsize=10)
        ax.set_yticks([n + 0.5 for n in range(len(depths))], [f"{10 * n} %" for n in depths])
        ax.invert_yaxis()
    names = [f"{low:,}–{high:,}" for low, high in bins]
    ax.set_xticks([n + 0.5 for n in range(len(bins))], names, rotation=90)
    figure.colorbar(image, ax=list(axes), label="share of right answers")
    figure.suptitle(f"needle in a haystack, {report['network']}")
    figure.supxlabel("tokens of the document (gray: it has no parts)")
    figure.supylabel("depth of the needle")
    return save_picture(figure, out)
