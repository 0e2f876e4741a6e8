"""The cache of compiled chunks and of adapters joined from them, by everything they depend on.

An entry counts only if its key and the digest of its content are right: damaged, foreign and
misshapen entries are written anew.
"""

import contextlib
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from d2l.adapters import module_names
from d2l.adapters.merge_methods import METHODS, scaled_parts
from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases import devices
from d2l.bases.models import pick_attention
from d2l.compiler.plan import CompilePlan
from d2l.documents.chunks import Chunk
from d2l.errors import ShapeError
from d2l.files import cache_entries as entries
from d2l.files.atomic import replace_file
from d2l.files.cache import file_digest, join_digests
from d2l.files.tensors import describe_tensor, find_tensors, view_bytes, write_tensors
from d2l.hypernets.protocol import Assembled, HypernetConfig, Part
from d2l.hypernets.registry import digest_files
from d2l.version import __version__

#: Raised with every change of what an entry holds.
_FORMAT = "1"
_PACKAGE = Path(__file__).parents[1]
#: Rooms whose code decides what a part is.
_ROOMS = ("adapters", "bases", "hypernets")


@dataclass(frozen=True)
class Found:
    """What the cache holds for a plan; without keys it holds nothing, and keeps nothing.

    A key names everything that an entry depends on, as JSON. `parts` are the chunks' shares of the
    adapter, and `own_parts` their memories of their own, where they are kept; None where a chunk
    has to be read, or where `assembled` needs none of them.
    """

    keys: tuple[str, ...] = ()
    parts: tuple[Part | None, ...] = ()
    whole: str | None = None
    assembled: Assembled | None = None
    own_keys: tuple[str, ...] = ()
    own_parts: tuple[Part | None, ...] = ()

    @property
    def n_cached(self) -> int:
        """Chunks that need not be read."""
        if self.assembled is not None:
            return len(self.keys)
        both = zip_longest(self.parts, self.own_parts, fillvalue=True)
        return sum(part is not None and own is not None for part, own in both)

    @property
    def n_read(self) -> int:
        """Chunks that have to be read."""
        return len(self.keys) - self.n_cached

    def part(self, index: int) -> Part | None:
        """A chunk's share of the adapter, if it is here."""
        return self.parts[index] if self.parts else None

    def own_part(self, index: int) -> Part | None:
        """A chunk's memory of its own, if it is here."""
        return self.own_parts[index] if self.own_parts else None

    def keep_part(self, index: int, part: Part) -> None:
        """Store what was made of a chunk."""
        if self.keys:
            _write(entries.PARTS, part, self.keys[index])

    def keep_own_part(self, index: int, part: Part) -> None:
        """Store a chunk's memory of its own."""
        if self.own_keys:
            _write(entries.PARTS, part, self.own_keys[index])

    def keep_assembled(self, assembled: Assembled, learned: int) -> None:
        """Store what all parts make together, and keep the cache within its bound. Of weights that
        are the parts side by side, only their last `learned` ranks are stored, which are no part's.
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


#: For plans that no cache is wanted for.
NOTHING = Found()


def look_up(plan: CompilePlan, *, base_dtype: torch.dtype) -> Found:
    """Look for the parts of a plan, and for the adapter that was joined from them.

    `base_dtype` is the precision that the base would run in: results differ by bits there.
    """
    if not entries.max_bytes():  # refuses a size that is none before the work
        return NOTHING
    common = _describe_run(plan, base_dtype)
    keys = tuple(_describe_part(common, chunk, chunk.rank) for chunk in plan.chunks)
    kept = [chunk for chunk in plan.chunks if chunk.part_rank]
    rounded = common | {"stored": "bf16"}
    own_keys = tuple(_describe_part(rounded, chunk, chunk.part_rank) for chunk in kept)
    own = _read_parts(own_keys, [chunk.part_rank for chunk in kept], plan.config)
    whole = _describe_whole(plan, keys)
    assembled, parts = _read(entries.ASSEMBLED, whole), tuple[Part | None, ...]()
    if not isinstance(assembled, Assembled) or assembled.memory is None:
        parts = _read_parts(keys, [chunk.rank for chunk in plan.chunks], plan.config)
        assembled = _join(plan, parts, assembled)
    if (
        isinstance(assembled, Assembled)
        and assembled.weights.rank == plan.full_rank
        and _fits(assembled.weights, plan.config)
        and all(own)
    ):
        for key in keys:  # without them the next change would begin from nothing
            entries.touch(entries.entry_path(entries.PARTS, _digest(key)))
        complete = replace(assembled, parts=tuple(p for p in own if isinstance(p, Memory)))
        return Found(keys, (None,) * len(keys), whole, complete)
    parts = parts or _read_parts(keys, [chunk.rank for chunk in plan.chunks], plan.config)
    return Found(keys, parts, whole, None, own_keys, own)


def _join(plan: CompilePlan, parts: Sequence[Part | None], learned: object) -> Assembled | None:
    """Weights of parts and of what `keep_assembled` stored beside them, if all of it is here."""
    if not isinstance(learned, Assembled) or not _fits(learned.weights, plan.config):
        return None
    here, merge = [part for part in parts if part is not None], plan.options.merging
    if len(here) < len(parts):
        return None
    shares = scaled_parts(here, merge.scale)
    return Assembled(METHODS[merge.method](shares, learned.weights))


def _describe_part(common: Mapping[str, str], chunk: Chunk, rank: int) -> str:
    text = _digest(",".join(map(str, chunk.token_ids)))
    return _to_json({**common, "text": text, "rank": str(rank)})


def _read_parts(
    keys: Sequence[str], ranks: Sequence[int], config: HypernetConfig
) -> tuple[Part | None, ...]:
    """The parts of these keys that are there and have the right shapes."""
    parts: list[Part | None] = []
    for key, rank in zip(keys, ranks, strict=True):
        part = _read(entries.PARTS, key)
        fits = not isinstance(part, Assembled) and _fits_part(part, config, rank)
        parts.append(part if fits else None)  # type: ignore[arg-type]
    return tuple(parts)


def as_kept(part: Part) -> Part:
    """A chunk's own memory in bf16, as the cache keeps it; parts.safetensors rounds it further."""
    assert isinstance(part, Memory)
    keys, values = part.keys.to(torch.bfloat16), part.values.to(torch.bfloat16)
    return as_stored(Memory(keys, values, part.claims_seats))


def as_stored(part: Part) -> Part:
    """The same values, laid out as they are read back, so that both give the same bits."""
    if isinstance(part, Memory):
        return Memory(part.keys.contiguous(), part.values.contiguous(), part.claims_seats)
    factors = {
        name: LoraFactors(f.a.contiguous(), f.b.contiguous()) for name, f in part.factors.items()
    }
    return replace(part, factors=factors)


# ---- keys ---------------------------------------------------------------------------------------


def _describe_run(plan: CompilePlan, base_dtype: torch.dtype) -> dict[str, str]:
    """Describe the part of a key that all chunks of a plan share."""
    reader = plan.encoder
    network = digest_files(plan.checkpoint.path)
    code = [path for room in _ROOMS for path in sorted((_PACKAGE / room).rglob("*.py"))]
    # A version in development is many: the code that makes parts counts.
    version_digest = join_digests([hashlib.sha256(path.read_bytes()).hexdigest() for path in code])
    return {
        "format": _FORMAT,
        "network": join_digests([f"{name} {digest}" for name, digest in sorted(network.items())]),
        "base": join_digests([reader.digest(), file_digest(reader.folder / "config.json")]),
        "base_dtype": str(base_dtype).removeprefix("torch."),
        "encoder": plan.options.encoder,
        "device": _describe_device(plan.device),
        "attention": pick_attention(reader.family, device=plan.device, dtype=base_dtype),
        "libraries": f"torch {version('torch')}, transformers {version('transformers')}",
        "d2l": f"{__version__}, {version_digest[:16]}",
    }


def _describe_whole(plan: CompilePlan, keys: Sequence[str]) -> str:
    merge, moments = plan.options.merging, plan.moments
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
    """A device whose results are the same to the bit; on CPUs threads split sums, too."""
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


def _write(kind: str, value: Part | Assembled, key: str) -> None:
    """Write an entry, whole or not at all. A full disk costs the entry, not the adapter."""
    path = entries.entry_path(kind, _digest(key))
    tensors, said = _take_apart(value)
    said |= {"key": path.stem, "made_of": key}
    said["sha256"] = _digest_entry(tensors, said)
    infos = {name: describe_tensor(tensor) for name, tensor in tensors.items()}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda new: write_tensors(new, infos, tensors.values(), said))


def _read(kind: str, key: str) -> Part | Assembled | None:
    """Read an entry's value; None where there is none, or its content differs from its key."""
    path = entries.entry_path(kind, _digest(key))
    kept = find_tensors(path)
    if kept is None:
        return None
    tensors, said = kept
    try:
        digest = said.pop("sha256", "")
        if said.get("key") != path.stem or digest != _digest_entry(tensors, said):
            return None
        value = _put_together(tensors, said)
    except (ValueError, KeyError, TypeError, ShapeError):
        return None
    entries.touch(path)
    return value


def _take_apart(value: Part | Assembled) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the rest as text."""
    if isinstance(value, Memory):
        pair = {"keys": value.keys, "values": value.values}
        return _sort(pair), {"kind": "memory", "claims_seats": str(int(value.claims_seats))}
    weights = value.weights if isinstance(value, Assembled) else value
    tensors = {f"a.{name}": f.a for name, f in weights.factors.items()}
    tensors |= {f"b.{name}": f.b for name, f in weights.factors.items()}
    said = {
        "kind": "assembled" if isinstance(value, Assembled) else "lora",
        "base": weights.base,
        "scale": repr(weights.scale),
        "modules": json.dumps(list(weights.factors)),  # in their order
        "ranks": json.dumps(weights.ranks),
    }
    if isinstance(value, Assembled) and value.memory is not None:
        tensors |= {"keys": value.memory.keys, "values": value.memory.values}
    return _sort(tensors), said


def _sort(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU, in the order of their names."""
    return {name: tensor.detach().cpu() for name, tensor in sorted(tensors.items())}


def _put_together(tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> Part | Assembled:
    """The value that `_take_apart` took apart."""
    memory = None
    if "keys" in tensors:
        claims = said.get("claims_seats", "1") == "1"
        memory = Memory(tensors["keys"], tensors["values"], claims)
    if said["kind"] == "memory":
        if memory is None:
            raise KeyError("keys")
        return memory
    factors = {
        name: LoraFactors(tensors[f"a.{name}"], tensors[f"b.{name}"])
        for name in json.loads(said["modules"])
    }
    ranks = json.loads(said["ranks"])
    weights = LoraWeights(said["base"], float(said["scale"]), factors, ranks)
    return weights if said["kind"] == "lora" else Assembled(weights, memory)


def _digest_entry(tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> str:
    """SHA-256 over everything in an entry: text, names, types, shapes and values."""
    digest = hashlib.sha256(_to_json(said).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(view_bytes(tensor))
    return digest.hexdigest()


def _fits_part(part: object, config: HypernetConfig, rank: int) -> bool:
    """Whether a part has the shapes that the network gives one of `rank`."""
    if isinstance(part, Memory):
        width = config.module_shapes.get("k_proj", (0, 0))[1]
        shape = (config.n_adapted_layers, max(rank, 1), width)
        return tuple(part.keys.shape) == shape and part.claims_seats == (rank > 0)
    return isinstance(part, LoraWeights) and part.rank <= rank and _fits(part, config)


def _fits(weights: LoraWeights, config: HypernetConfig) -> bool:
    shapes = config.module_shapes
    return weights.base == config.base and all(
        (f.a.shape[1], f.b.shape[0]) == shapes.get(module_names.parse(name).short)
        for name, f in weights.factors.items()
    )
