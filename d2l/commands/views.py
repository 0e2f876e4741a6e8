"""What `inspect`, `checkpoints` and `probe` print: values in, lines on stdout out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from d2l.commands import console
from d2l.commands.inspection import AdapterView

#: More rows than this are no picture any more.
_MOST_BARS = 40


def show_adapter(view: AdapterView) -> None:
    """Print provenance, rank, size, and the delta's norm by layer and by chunk."""
    values = view.values
    layers = values["layers"]
    span = f"{layers[0]}-{layers[-1]}" if layers else "none"
    rows = [
        ("adapter", values["adapter"]),
        ("base", values["base"]),
        ("rank", f"{values['rank']} (alpha {values['lora_alpha']})"),
        ("modules", f"{', '.join(values['modules'])} in layers {span}"),
        ("size", f"{values['size_bytes'] / 1e6:.2f} MB, {', '.join(values['dtype'])}"),
    ]
    provenance = values["provenance"]
    if provenance is None:
        _show_rows(rows)
        console.note("no d2l.json: made by another tool, so its documents and norms are unknown")
        return
    tool, checkpoint = provenance["tool"], provenance["checkpoint"]
    rows += [
        ("made by", f"{tool['name']} {tool['version']}, checkpoint {checkpoint['name']}"),
        ("network", f"{checkpoint['network']}, sha256 {checkpoint['sha256'][:16]}…"),
    ]
    if provenance["base"]["sha256"] is not None:  # descriptions are often made without weights
        rows.append(("base file", f"sha256 {provenance['base']['sha256'][:16]}…"))
    if (description := provenance.get("description")) is not None:
        rows.append(("task", _shorten(" ".join(description["text"].split()), 100)))
        rows.append(("embedder", description["embedder"]))
        if (familiarity := description.get("familiarity")) is not None:
            rows.append(("familiarity", f"{familiarity:.2f}"))
        rows.append(("scaling", f"{provenance['options']['scaling']} ({provenance['scale']:g})"))
    else:
        rows.append(("merge", _describe_merge(provenance)))
    rows += [
        ("input", f"{entry['name']} ({entry['format']}, sha256 {entry['sha256'][:16]}…)")
        for entry in provenance["inputs"]
    ]
    rows += [("skipped", entry["reason"]) for entry in provenance["skipped"]]
    rows += [("warning", warning) for warning in provenance["warnings"]]
    _show_rows(rows)
    _show_norms(provenance)


def _show_rows(rows: list[tuple[str, Any]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.result(f"{name:<{width}}  {value}")


def _describe_merge(provenance: dict[str, Any]) -> str:
    text = str(provenance["options"]["merge"])
    errors = provenance["merge_error"].values()
    if errors:
        before = provenance["rank_before_max_rank"]
        text += f", rank {before} cut to {provenance['rank']}, error at most {max(errors):.2%}"
    return text


def _show_norms(provenance: dict[str, Any]) -> None:
    norms = provenance["norms"]
    console.result("")
    layers = [(f"layer {n}", norm) for n, norm in enumerate(norms["layers"])]
    console.show_bars("norm of the delta by layer", layers)
    bars = _fold(_list_chunk_norms(provenance), most=_MOST_BARS)
    if not bars:  # a description has no chunks
        return
    console.result("")
    console.show_bars(
        "norm of the delta by chunk", [(_shorten(_span(names)), norm) for names, norm in bars]
    )


def _list_chunk_norms(provenance: dict[str, Any]) -> list[tuple[list[str], float]]:
    """(places, norm) of every slice of the adapter; chunks that share one stand together."""
    several = len(provenance["inputs"]) > 1
    bars: list[tuple[list[str], float]] = []
    last: list[int] | None = None
    for chunk, norm in zip(provenance["chunks"], provenance["norms"]["chunks"], strict=True):
        place = chunk["source"] or f"chunk {chunk['index']}"
        label = f"{chunk['document']}: {place}" if several else place
        ranks = chunk["ranks"]
        shares = ranks is not None and (ranks[0] == ranks[1] or ranks == last)
        if shares and bars:  # averaged into the seat before, or into all seats
            bars[-1][0].append(label)
        else:
            bars.append(([label], norm))
        last = ranks
    return bars


def _fold(bars: list[tuple[list[str], float]], *, most: int) -> list[tuple[list[str], float]]:
    """Join neighbors until `most` rows are left; norms of disjoint slices add up as squares."""
    step = max(1, math.ceil(len(bars) / most))
    groups = [bars[start : start + step] for start in range(0, len(bars), step)]
    return [
        ([name for names, _ in group for name in names], math.hypot(*(norm for _, norm in group)))
        for group in groups
    ]


def _span(names: list[str]) -> str:
    """One label for places in a row: the first to the last."""
    first, last = names[0], names[-1]
    return first if first == last else f"{first} … {last}"


def _shorten(label: str, width: int = 48) -> str:
    return label if len(label) <= width else label[: width - 1] + "…"


def show_checkpoints(rows: list[dict[str, Any]]) -> None:
    """Print the table of known checkpoints."""
    console.show_table(
        ("name", "base", "base licence", "network", "size", "on disk"),
        [
            (
                row["name"],
                row["base"],
                row["base_license"],
                row["network"],
                f"{row['size_bytes'] / 1e6:,.0f} MB",
                "built in" if row["source"] == "built in" else ("yes" if row["on_disk"] else "no"),
            )
            for row in rows
        ],
    )


def show_checkpoint(values: dict[str, Any]) -> None:
    """Print a checkpoint's facts; long lists of token ids are shown by their length."""
    config = values["config"]
    rows = [(key, values[key]) for key in ("name", "path", "format", "network", "sha256")]
    for key, value in config.items():
        if key == "network":
            continue  # the kind, shown above
        long = isinstance(value, list | tuple) and len(value) > 8
        text = f"{len(value)} values" if long else value
        rows.append((key, str(text) if len(str(text)) <= 100 else f"{str(text)[:97]}…"))
    _show_rows(rows)


def show_sources(rows: list[dict[str, Any]]) -> None:
    """Print what each source of a recipe gives for each length."""
    columns = tuple(rows[0])
    console.show_table(
        [column.replace("_", " ") for column in columns],
        [
            [str(row[key]) if key in ("source", "tokens") else f"{row[key]:,}" for key in columns]
            for row in rows
        ],
    )


def show_recall(rows: Sequence[Mapping[str, Any]], harm: Mapping[str, Any] | None) -> None:
    """Print how much came back, set by set, length by length and arm by arm."""
    scores = ("contained", "exact match", "F1", "NLL", "without end")
    console.show_table(
        ("set", "length", "tokens", "arm", "n", *scores),
        [
            (
                row["set"],
                "?" if row["length"] is None else f"{row['length']:,}",
                "?" if row["tokens"] is None else f"{row['tokens']:,.0f}",
                _name_arm(row),
                f"{row['n']:,}",
                *(_with_error(row, key) for key in ("contained", "em", "f1")),
                *(_with_error(row, key, digits=2) for key in ("nll", "nll_without_end")),
            )
            for row in rows
        ],
    )
    notes = []
    if n_cut := sum(row.get("cut", 0) for row in rows):
        notes.append(f"the document was cut to fit into the prompt of {n_cut:,} questions")
    for one in (harm or {}).get("by_seats", [harm] if harm else []):
        seats = "" if one["seats"] is None else f" at {one['seats']} seats"
        notes.append(
            f"harm{seats}: KL {_with_error(one, 'kl', digits=2)} nats a token, most likely token "
            f"unchanged {_with_error(one, 'unchanged')} ({one['n']} general prompts)"
        )
    if notes:
        console.result("\n".join(["", *notes]))


def _name_arm(row: Mapping[str, Any]) -> str:
    """The arm for people; the prompt's with the name of its wording."""
    names = {"adapter": "adapter", "base": "base alone"}
    return names.get(row["arm"]) or f"prompt ({row['wording']})"


def _with_error(row: Mapping[str, Any], key: str, digits: int = 3) -> str:
    """A mean and its standard error, where there is one."""
    error = row["stderr"][key]
    return f"{row[key]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
