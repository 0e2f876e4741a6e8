"""`d2l check --live` and `d2l compile --live-check`: ask an endpoint, and make what is asked."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2l.adapters.info import LIVE_CHECK, read_info
from d2l.commands import console

#: Where the base lies, the device, and whether to stay offline.
Asking = tuple[str | None, str, bool]

if TYPE_CHECKING:
    from d2l.api.adapter import Adapter
    from d2l.compiler.plan import CompilePlan
    from d2l.evaluation.live.endpoint import Endpoint
    from d2l.evaluation.live.expectations import Expectations
    from d2l.evaluation.live.verdict import LiveReport
    from d2l.evaluation.originals import Stretch


def check_endpoint(adapter: Path, endpoint: "Endpoint", asking: Asking) -> "LiveReport":
    """Ask the questions in an adapter's folder, or such as are made now."""
    from d2l.evaluation.live.expectations import read_expectations
    from d2l.evaluation.live.verdict import check_live

    read_info(adapter)  # says best what is wrong with a folder
    expectations = read_expectations(adapter)
    if expectations is None:
        console.note("the adapter has no live_check.json, so its questions are made now")
        expectations = _make(adapter, _find_stretches(adapter), asking)
    return check_live(endpoint, expectations, console.watch)


def add_live_check(adapter: "Adapter", plan: "CompilePlan", asking: Asking) -> "Adapter":
    """The adapter that a plan was compiled to, with `live_check.json` among its files: so its
    folder appears with it, and its lock holds for it, too."""
    from d2l.compiler.lock import note_live_check
    from d2l.evaluation.live.expectations import format_expectations
    from d2l.evaluation.live.make import list_stretches

    stretches = list_stretches(plan.documents, plan.chunks)
    with tempfile.TemporaryDirectory(prefix="d2l-live-") as folder:
        asked = adapter.save_pretrained(Path(folder, "adapter.lora"))
        text = format_expectations(_make(asked, stretches, asking))
    assert adapter.lock is not None  # it was compiled just now
    lock = note_live_check(adapter.lock)
    return replace(adapter, texts={**adapter.texts, LIVE_CHECK: text}, lock=lock)


def _make(adapter: Path, stretches: "list[Stretch]", asking: Asking) -> "Expectations":
    from d2l.evaluation.live.make import make_expectations
    from d2l.inference.adapted_model import AdaptedModel, AskOptions

    base, device, offline = asking
    options = AskOptions(base, device, offline=offline)
    return make_expectations(AdaptedModel.load(adapter, options), stretches, adapter)


def _find_stretches(adapter: Path) -> "list[Stretch]":
    """The adapter's document where it still lies; nothing where it is gone."""
    from d2l.evaluation.originals import find_originals

    found = find_originals(read_info(adapter))
    return [] if found is None else list(found.stretches)


def show_live(report: "LiveReport") -> str:
    """The lines that are printed for people."""
    lines = [f"{report.model} at {report.url}: {report.said}"]
    if report.advice:
        lines.append(f"  do: {report.advice}")
    ranked = sorted(report.distances.items(), key=lambda item: item[1])
    shown = ", ".join(f"{name} {distance:.2f}" for name, distance in ranked)
    lines.append(f"  {report.n_questions} questions, by {report.by}; distances: {shown}")
    return "\n".join(lines)


def describe_live(adapter: Path, report: "LiveReport") -> dict[str, Any]:
    """The values that `--json` prints."""
    return {"adapter": str(adapter), "live": report.to_json(), "passes": report.passes}
