"""The cache of compiled chunks, and of adapters joined from them, by all their dependencies.

An entry's file counts only if its key and the digest of its content are right: damaged, foreign
and misshapen files are written anew.
"""

import contextlib
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from d2l.adapters import module_names
from d2l.adapters.merge_methods import METHODS, scaled_parts
from d2l.adapters.peft_folder import pick_torch_dtype
from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases import devices
from d2l.bases.attention import pick_attention
from d2l.compiler.plan import CompilePlan
from d2l.documents.chunks import Chunk
from d2l.errors import ShapeError
from d2l.files import cache_entries as entries
from d2l.files.atomic import replace_file
from d2l.files.cache import file_digest, join_digests
from d2l.files.tensors import describe_tensor, find_tensors, view_bytes, write_tensors
from d2l.hypernets.protocol import Assembled, ChunkWeights, HypernetConfig
from d2l.version import __version__

#: Raised with every change of an entry's content.
_FORMAT = "1"
_PACKAGE = Path(__file__).parents[1]
#: Rooms whose code decides the values of an entry.
_ROOMS = ("adapters", "bases", "hypernets")


@dataclass(frozen=True)
class Entry:
    """Entry of the cache for a chunk: its share of the adapter, and its part, if the adapter keeps
    parts; None if the chunk has to be read for it.

    A key names everything that a value depends on, as JSON; values without a key are not stored.
    """

    key: str = ""
    part_key: str = ""
    share: ChunkWeights | None = None
    part: Memory | None = None

    @property
    def is_whole(self) -> bool:
        """True if the chunk need not be read."""
        return self.share is not None and (self.part is not None or not self.part_key)

    def keep(self, share: ChunkWeights, part: Memory | None) -> None:
        """Store a chunk's values, those that were not cached."""
        if self.key and self.share is None:
            _write(entries.CHUNKS, share, self.key)
        if self.part_key and self.part is None and part is not None:
            _write(entries.CHUNKS, part, self.part_key)


@dataclass(frozen=True)
class Cached:
    """The cache's entries for the chunks of a plan, and the adapter that was joined from them, with
    its key. `chunks` may lack their shares if `assembled` needs none of them."""

    chunks: tuple[Entry, ...] = ()
    whole: str | None = None
    assembled: Assembled | None = None

    @property
    def n_cached(self) -> int:
        """Chunks that need not be read."""
        return sum(self.assembled is not None or entry.is_whole for entry in self.chunks)

    @property
    def n_read(self) -> int:
        """Chunks that have to be read."""
        return len(self.chunks) - self.n_cached

    def find(self, chunk: Chunk) -> Entry:
        """The entry of a chunk; an empty one without a cache."""
        return self.chunks[chunk.index] if self.chunks else Entry()

    def keep_assembled(self, assembled: Assembled, learned: int) -> None:
        """Store what all chunks make together, and keep the cache within its bound.

        Of weights that are the chunks' side by side, only the last `learned` ranks are stored,
        which are of no chunk.
        """
        if self.whole is None:
            return
        if assembled.memory is None:
            weights = assembled.weights
            start = weights.rank - learned
            pairs = weights.factors.items()
            factors = {name: LoraFactors(f.a[start:], f.b[:, start:]) for name, f in pairs}
            assembled = Assembled(replace(weights, factors=factors))
        _write(entries.ASSEMBLED, assembled, self.whole)
        entries.prune(entries.max_bytes())


#: For plans that use no cache.
NOTHING = Cached()


def look_up(plan: CompilePlan) -> Cached:
    """Look for the chunks of a plan, and for the adapter that was joined from them, if its options
    allow that; raises OptionError."""
    if not plan.options.cache or not entries.max_bytes():  # an invalid size is told before the work
        return NOTHING
    run = _describe_run(plan)
    chunks = [_find_part(plan, chunk, run) for chunk in plan.chunks]
    whole = _describe_whole(plan, [entry.key for entry in chunks])
    assembled = _read(entries.ASSEMBLED, whole)
    if not isinstance(assembled, Assembled) or assembled.memory is None:
        chunks = _find_shares(plan, chunks)
        assembled = _join(plan, chunks, assembled)
    if (
        isinstance(assembled, Assembled)
        and assembled.weights.rank == plan.cut.full_rank
        and _fits(assembled.weights, plan.config)
        and all(entry.part is not None or not entry.part_key for entry in chunks)
    ):
        for entry in chunks:  # without them the next change would begin from nothing
            entries.touch(entries.entry_path(entries.CHUNKS, _digest(entry.key)))
        parts = tuple(entry.part for entry in chunks if entry.part is not None)
        return Cached(tuple(chunks), whole, replace(assembled, parts=parts))
    return Cached(tuple(_find_shares(plan, chunks)), whole)


def _find_part(plan: CompilePlan, chunk: Chunk, run: Mapping[str, str]) -> Entry:
    """Find a chunk's part, and the keys of both values."""
    entry = Entry(_describe_chunk(run, chunk, chunk.rank))
    if not chunk.part_rank:
        return entry
    key = _describe_chunk({**run, "stored": "bf16"}, chunk, chunk.part_rank)
    part = _read_chunk(key, chunk.part_rank, plan.config)
    return replace(entry, part_key=key, part=part if isinstance(part, Memory) else None)


def _find_shares(plan: CompilePlan, chunks: Sequence[Entry]) -> list[Entry]:
    """Find the chunks' shares of the adapter, unless they were found."""
    return [
        replace(e, share=e.share or _read_chunk(e.key, chunk.rank, plan.config))
        for e, chunk in zip(chunks, plan.chunks, strict=True)
    ]


def _join(plan: CompilePlan, chunks: Sequence[Entry], learned: object) -> Assembled | None:
    """Join the chunks' weights with those of no chunk, which `keep_assembled` stored, if all of
    them are cached."""
    if not isinstance(learned, Assembled) or not _fits(learned.weights, plan.config):
        return None
    shares, merge = [e.share for e in chunks if e.share is not None], plan.options.merging
    if len(shares) < len(chunks):
        return None
    return Assembled(METHODS[merge.method](scaled_parts(shares, merge.scale), learned.weights))


def _describe_chunk(run: Mapping[str, str], chunk: Chunk, rank: int) -> str:
    text = _digest(",".join(map(str, chunk.token_ids)))
    return _to_json({**run, "text": text, "rank": str(rank)})


def _read_chunk(key: str, rank: int, config: HypernetConfig) -> ChunkWeights | None:
    """Read a chunk's weights, if they are cached and have the right shapes."""
    value = _read(entries.CHUNKS, key)
    if value is None or isinstance(value, Assembled) or not _fits_chunk(value, config, rank):
        return None
    return value


def round_part(part: ChunkWeights) -> Memory:
    """Round a part to bf16 for the cache; parts.safetensors rounds it further."""
    assert isinstance(part, Memory)
    keys, values = part.keys.to(torch.bfloat16), part.values.to(torch.bfloat16)
    return Memory(keys, values, part.claims_seats).contiguous()


# ---- keys ---------------------------------------------------------------------------------------


def _describe_run(plan: CompilePlan) -> dict[str, str]:
    """Describe what all chunks of a plan depend on."""
    reader = plan.network.reader
    network = plan.network.digest_files()
    code = [path for room in _ROOMS for path in sorted((_PACKAGE / room).rglob("*.py"))]
    # A version in development changes: the code that writes chunks counts, too.
    version_digest = join_digests([hashlib.sha256(path.read_bytes()).hexdigest() for path in code])
    return {
        "format": _FORMAT,
        "network": join_digests([f"{name} {digest}" for name, digest in sorted(network.items())]),
        "base": join_digests([reader.digest(), file_digest(reader.folder / "config.json")]),
        "base_dtype": plan.base_dtype,
        "device": _describe_device(plan.device),
        "attention": pick_attention(
            reader.family, device=plan.device, dtype=pick_torch_dtype(plan.base_dtype)
        ),
        "libraries": f"torch {version('torch')}, transformers {version('transformers')}",
        "d2l": f"{__version__}, {version_digest[:16]}",
    }


def _describe_whole(plan: CompilePlan, keys: Sequence[str]) -> str:
    merge, moments = plan.options.merging, plan.network.find_moments()
    return _to_json(
        {
            "parts": join_digests(list(map(_digest, keys))),
            "merge": merge.method,
            "scale": repr(merge.scale),
            "bias_scale": repr(merge.bias_scale),
            "moments": "none" if moments is None else file_digest(moments),
            "base": plan.base.digest(),
        }
    )


def _describe_device(device: str) -> str:
    """Describe a device by all that changes bits of its results; on CPUs also the threads."""
    if devices.is_cuda(device):
        return f"cuda, {torch.cuda.get_device_name(device)}"
    if device != "cpu":
        return device
    capability = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    return f"cpu, {platform.machine()} {capability}, {threads} threads"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _to_json(values: Mapping[str, str]) -> str:
    return json.dumps(dict(values), sort_keys=True, ensure_ascii=True)


# ---- entries ------------------------------------------------------------------------------------


def _write(kind: str, value: ChunkWeights | Assembled, key: str) -> None:
    """Write an entry, whole or not at all. A full disk costs the entry, not the adapter."""
    path = entries.entry_path(kind, _digest(key))
    tensors, fields = _take_apart(value)
    fields |= {"key": path.stem, "made_of": key}
    fields["sha256"] = _digest_entry(tensors, fields)
    infos = {name: describe_tensor(tensor) for name, tensor in tensors.items()}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda new: write_tensors(new, infos, tensors.values(), fields))


def _read(kind: str, key: str) -> ChunkWeights | Assembled | None:
    """Read an entry's value; None if it is missing, or its content differs from its key."""
    path = entries.entry_path(kind, _digest(key))
    kept = find_tensors(path)
    if kept is None:
        return None
    tensors, fields = kept
    try:
        digest = fields.pop("sha256", "")
        if fields.get("key") != path.stem or digest != _digest_entry(tensors, fields):
            return None
        value = _put_together(tensors, fields)
    except (ValueError, KeyError, TypeError, ShapeError):
        return None
    entries.touch(path)
    return value


def _take_apart(value: ChunkWeights | Assembled) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Take a value apart: tensors by name, and the rest as text."""
    if isinstance(value, Memory):
        pair = {"keys": value.keys, "values": value.values}
        return _sort(pair), {"kind": "memory", "claims_seats": str(int(value.claims_seats))}
    weights = value.weights if isinstance(value, Assembled) else value
    tensors = {f"a.{name}": f.a for name, f in weights.factors.items()}
    tensors |= {f"b.{name}": f.b for name, f in weights.factors.items()}
    fields = {
        "kind": "assembled" if isinstance(value, Assembled) else "lora",
        "base": weights.base,
        "scale": repr(weights.scale),
        "modules": json.dumps(list(weights.factors)),  # in their order
        "ranks": json.dumps(weights.ranks),
    }
    if isinstance(value, Assembled) and value.memory is not None:
        tensors |= {"keys": value.memory.keys, "values": value.memory.values}
    return _sort(tensors), fields


def _sort(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sort tensors by name, and move them to the CPU."""
    return {name: tensor.detach().cpu() for name, tensor in sorted(tensors.items())}


def _put_together(
    tensors: Mapping[str, Tensor], fields: Mapping[str, str]
) -> ChunkWeights | Assembled:
    """Undo `_take_apart`."""
    memory = None
    if "keys" in tensors:
        claims = fields.get("claims_seats", "1") == "1"
        memory = Memory(tensors["keys"], tensors["values"], claims)
    if fields["kind"] == "memory":
        if memory is None:
            raise KeyError("keys")
        return memory
    factors = {
        name: LoraFactors(tensors[f"a.{name}"], tensors[f"b.{name}"])
        for name in json.loads(fields["modules"])
    }
    ranks = json.loads(fields["ranks"])
    weights = LoraWeights(fields["base"], float(fields["scale"]), factors, ranks)
    return weights if fields["kind"] == "lora" else Assembled(weights, memory)


def _digest_entry(tensors: Mapping[str, Tensor], fields: Mapping[str, str]) -> str:
    """SHA-256 over everything in an entry: text, names, types, shapes and values."""
    digest = hashlib.sha256(_to_json(fields).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(view_bytes(tensor))
    return digest.hexdigest()


def _fits_chunk(weights: ChunkWeights, config: HypernetConfig, rank: int) -> bool:
    """True if weights have the shapes that the network gives a chunk of `rank`."""
    if isinstance(weights, Memory):
        width = config.module_shapes.get("k_proj", (0, 0))[1]
        shape = (len(config.reading.key_value_layers), max(rank, 1), width)
        return tuple(weights.keys.shape) == shape and weights.claims_seats == (rank > 0)
    return weights.rank <= rank and _fits(weights, config)


def _fits(weights: LoraWeights, config: HypernetConfig) -> bool:
    shapes = config.module_shapes
    return weights.base == config.base and all(
        (f.a.shape[1], f.b.shape[0]) == shapes.get(module_names.parse(name).short)
        for name, f in weights.factors.items()
    )
