"""Differences of two adapters: inputs, chunks, options, checkpoint, and the delta by layer."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.adapters import module_names
from d2l.adapters.deltas import difference_norms
from d2l.adapters.provenance import ChunkRecord
from d2l.change.parents import Parent, read_parent
from d2l.errors import MergeError


@dataclass(frozen=True)
class LayerChange:
    """Change of a layer: ‖ΔW₁‖ and ‖ΔW₁ − ΔW₂‖, Frobenius norms over all its modules, in fp64."""

    layer: str
    norm: float
    difference: float

    @property
    def relative(self) -> float | None:
        """‖ΔW₁ − ΔW₂‖ / ‖ΔW₁‖; None if the first adapter changes nothing."""
        return self.difference / self.norm if self.norm else (None if self.difference else 0.0)


@dataclass(frozen=True)
class Difference:
    """Difference of two adapters; `facts` holds pairs (first, second) by their names."""

    facts: Mapping[str, tuple[Any, Any]]
    inputs: Mapping[str, str]  # name -> "added", "removed" or "changed"
    chunks: Mapping[str, str]  # "document: place" -> the same
    parts: Mapping[str, str]  # the same of the parts that questions choose
    layers: tuple[LayerChange, ...]
    whole: LayerChange

    @property
    def same(self) -> bool:
        """True if nothing differs, neither in facts nor in the delta."""
        differs = self.facts or self.inputs or self.chunks or self.parts
        return not differs and (self.whole.relative or 0.0) < 1e-12


def _measure(left: Parent, right: Parent) -> dict[str, tuple[float, float]]:
    try:
        return difference_norms(left.weights, right.weights)
    except MergeError as error:
        bases = left.weights.base, right.weights.base
        if bases[0] == bases[1]:
            raise
        raise MergeError(
            f"the adapters are for different bases: {bases[0]} and {bases[1]}",
            hint="compare adapters of one base: no delta fits another one",
        ) from error


def compare(first: Path, second: Path) -> Difference:
    """Compare two adapter folders, without dense matrices; raises D2LError."""
    left, right = read_parent(first), read_parent(second)
    for parts in filter(None, (left.content.parts, right.content.parts)):
        parts.check_values()
    norms = _measure(left, right)
    layers: dict[str, list[tuple[float, float]]] = {}
    for name, pair in norms.items():
        layer = module_names.parse(name).layer
        layers.setdefault(name if layer is None else str(layer), []).append(pair)
    order = sorted(layers, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0))
    rows = tuple(_join(layer, layers[layer]) for layer in order)
    return Difference(
        facts=_compare_facts(left, right),
        inputs=_compare_rows(_list_inputs(left), _list_inputs(right)),
        chunks=_compare_rows(list_chunks(left.chunks), list_chunks(right.chunks)),
        parts=_compare_rows(_list_parts(left), _list_parts(right)),
        layers=rows,
        whole=_join("all", list(norms.values())),
    )


def _join(layer: str, pairs: list[tuple[float, float]]) -> LayerChange:
    return LayerChange(
        layer, math.hypot(*(own for own, _ in pairs)), math.hypot(*(d for _, d in pairs))
    )


def _compare_facts(left: Parent, right: Parent) -> dict[str, tuple[Any, Any]]:
    """Compare base, rank, modules, checkpoint and options."""
    pairs = {
        "base": (left.weights.base, right.weights.base),
        "rank": (left.weights.rank, right.weights.rank),
        "modules": (_modules(left), _modules(right)),
    }
    for key in ("name", "network", "sha256"):
        pairs[f"checkpoint {key}"] = (
            getattr(left.checkpoint, key, None),
            getattr(right.checkpoint, key, None),
        )
    options = left.options.to_json(), right.options.to_json()
    for key in sorted({*options[0], *options[1]}):
        pairs[f"option {key}"] = (options[0].get(key), options[1].get(key))
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _modules(parent: Parent) -> str:
    return ", ".join(module_names.list_short(parent.weights.factors))


def _list_inputs(parent: Parent) -> dict[str, Any]:
    inputs = () if parent.provenance is None else parent.provenance.inputs
    return {row.name: row.sha256 for row in inputs}


def list_chunks(chunks: Sequence[ChunkRecord]) -> dict[str, Any]:
    """List facts of chunks by document and place; the second chunk of a place, say of a page, has a
    number."""
    rows = []
    for chunk in chunks:
        size = None if chunk.ranks is None else chunk.ranks[1] - chunk.ranks[0]
        facts = (chunk.characters, chunk.n_tokens, size, chunk.scale)
        rows.append((f"{chunk.document}: {chunk.source or 'text'}", facts))
    return _number(rows)


def _list_parts(parent: Parent) -> dict[str, Any]:
    """List each part's text and size by document and place."""
    parts = parent.content.parts
    return _number(
        (f"{part.document}: {part.place or 'text'}", (part.text, part.n_tokens, part.n_seats))
        for part in (() if parts is None else parts.records)
    )


def _number(rows: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Name rows; the second row of a name has a number behind it."""
    named: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    for name, facts in rows:
        counts[name] += 1
        while (key := f"{name} ({counts[name]})" if counts[name] > 1 else name) in named:
            counts[name] += 1
        named[key] = facts
    return named


def _compare_rows(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, str]:
    """Compare rows: added, removed or changed; equal rows are left out."""
    changes = {}
    for name in [*left, *(name for name in right if name not in left)]:
        if name not in right:
            changes[name] = "removed"
        elif name not in left:
            changes[name] = "added"
        elif left[name] != right[name]:
            changes[name] = "changed"
    return changes
