"""What an adapter's `d2l.json` says: where it came from, exactly enough to make it again.

A plan and its outcome in, plain JSON values out. No time stamps and no absolute paths of its
own making: the same run gives the same bytes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from d2l import __version__
from d2l.adapters.info import FORMAT
from d2l.adapters.weights import LoraFactors, LoraWeights, delta_norm
from d2l.bases.families import module_path
from d2l.compiler.plan import CompileOptions, CompilePlan
from d2l.hypernets.checkpoints import checkpoint_digest
from d2l.hypernets.protocol import Assembled


def describe(
    plan: CompilePlan,
    options: CompileOptions,
    assembled: Assembled,
    merge_error: Mapping[str, float],
    skipped: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """Provenance of an adapter: tool, checkpoint, base, inputs, chunks, options, prompt, norms."""
    slices = rank_slices(plan)
    compressed = bool(merge_error)
    return {
        "format": FORMAT,
        "tool": {"name": "d2l", "version": __version__},
        "checkpoint": {
            "name": plan.checkpoint.name,
            "network": plan.config.kind,
            "sha256": checkpoint_digest(plan.checkpoint.path),
        },
        "base": {"name": plan.config.base, "sha256": plan.base.digest()},
        "inputs": [
            {
                "name": document.name,
                "format": document.format,
                "sha256": document.digest,
                "size_bytes": document.size_bytes,
                "notes": list(document.notes),
            }
            for document in plan.documents
        ],
        "skipped": [{"name": name, "reason": reason} for name, reason in skipped],
        "chunks": [
            {
                "index": chunk.index,
                "document": chunk.document,
                "source": chunk.source,
                "characters": list(chunk.span),  # of the document's text as it was read
                "n_tokens": len(chunk.token_ids),
                # Compression mixes the slices, so they name no ranks of the written adapter.
                "ranks": None if compressed else list(span),
            }
            for chunk, span in zip(plan.chunks, slices, strict=True)
        ],
        # Ranks of the learned, document-independent part, which stands behind all chunks.
        "bias_ranks": None if compressed else list(bias_slice(plan)),
        "rank": plan.rank,
        "rank_before_max_rank": plan.full_rank,
        "options": {
            "merge": options.merge.method,
            "scale": options.merge.scale,
            "bias_scale": options.merge.bias_scale,
            "max_rank": options.max_rank,
            "chunk_tokens": options.chunk_tokens,
            "tokens_per_seat": options.tokens_per_seat,
            "dtype": options.dtype,
        },
        "merge_error": {name: _short(error) for name, error in sorted(merge_error.items())},
        "prompt": plan.kind.prompt(plan.config, plan.rank),
        "norms": describe_norms(assembled.weights, plan, slices),
        "warnings": list(plan.warnings),
    }


def rank_slices(plan: CompilePlan) -> list[tuple[int, int]]:
    """[start, stop) of every chunk's ranks (or seats) before compression; all share them all
    where seats are averaged."""
    if plan.kind.averages_share and plan.method == "average":
        return [(0, plan.full_rank)] * len(plan.chunks)
    spans, start = [], 0
    for chunk in plan.chunks:
        spans.append((start, start + chunk.rank))
        start += chunk.rank
    return spans


def bias_slice(plan: CompilePlan) -> tuple[int, int]:
    """[start, stop) of the ranks of the learned part; empty where there is none."""
    return plan.full_rank - plan.config.bias_rank, plan.full_rank


def describe_norms(
    weights: LoraWeights, plan: CompilePlan, slices: Sequence[tuple[int, int]]
) -> dict[str, list[float]]:
    """Frobenius norm of the delta by layer and by chunk, before compression.

    A layer's or chunk's norm is that of all its modules' deltas side by side.
    """
    by_layer = []
    for layer in range(plan.config.n_base_layers):
        names = [module_path(layer, module) for module in plan.config.module_shapes]
        norms = [
            delta_norm(weights.factors[n], weights.scale) for n in names if n in weights.factors
        ]
        by_layer.append(_short(math.hypot(*norms)) if norms else 0.0)
    by_chunk = []
    for start, stop in slices:
        norms = [
            delta_norm(LoraFactors(f.a[start:stop], f.b[:, start:stop]), weights.scale)
            for f in weights.factors.values()
        ]
        by_chunk.append(_short(math.hypot(*norms)))
    return {"layers": by_layer, "chunks": by_chunk}


def _short(value: float) -> float:
    """Six significant digits: enough to see, and the same on every run."""
    return float(f"{value:.6g}")
