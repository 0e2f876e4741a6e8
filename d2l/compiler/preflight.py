"""Before a first run: what it needs, whether this machine may have it, and whether it fits.

Options in, facts and the first thing to do out. No more than configuration is downloaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers

from d2l.bases.devices import pick_device, pick_dtype
from d2l.bases.models import BaseFiles
from d2l.compiler.plan import CompilePlan, prepare
from d2l.compiler.timing import describe_estimate, estimate_seconds
from d2l.documents.intake import Intake
from d2l.errors import BaseModelError, D2LError
from d2l.files.hub import Listing, free_bytes
from d2l.hypernets.checkpoints import find_format
from d2l.hypernets.doc_to_lora.compiling import MOST_CHUNK_TOKENS
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.networks import open_to_plan, refuse_refused
from d2l.hypernets.options import CompileOptions


@dataclass(frozen=True)
class Preflight:
    """`needs`: checkpoint and models, None for what is on disk. No `network` where the hub refuses
    one of them. `plan`: that of the documents, if there are any."""

    needs: Mapping[str, Listing | None]
    device: str
    network: AnyNetwork | None
    plan: CompilePlan | None = None

    @property
    def missing(self) -> list[Listing]:
        """What has to be fetched."""
        return [listing for listing in self.needs.values() if listing is not None]

    @property
    def missing_bytes(self) -> int:
        """Bytes that have to be fetched."""
        return sum(listing.missing_bytes for listing in self.missing)

    @property
    def memory(self) -> dict[int, int]:
        """About how many bytes of the GPU chunks of so many tokens need; empty for a CPU."""
        if self.network is None or not self.device.startswith("cuda"):
            return {}
        lengths = [self.network.config.chunk_tokens or MOST_CHUNK_TOKENS, MOST_CHUNK_TOKENS]
        if self.plan is not None:
            lengths = [max(len(chunk.token_ids) for chunk in self.plan.chunks)]
        own = next(iter(self.needs.values()))
        n_bytes = _count_bytes(self.network, own)
        return {
            n: n_bytes + estimate_reading(self.network, n, self.device) for n in sorted(lengths)
        }

    def find_fault(self, *, estimates: bool = True) -> D2LError | None:
        """The first thing that keeps the run from succeeding, with what to do about it; without
        `estimates` only what is certain."""
        try:
            refuse_refused(self.missing)
        except D2LError as error:
            return error
        needed, free = self.missing_bytes, free_bytes()
        if needed > free:
            return BaseModelError(
                f"{_gb(needed)} have to be fetched, and the disk has {_gb(free)} free",
                hint="make room, or name a folder on another disk in HF_HOME",
            )
        least = min(self.memory.values(), default=0) if estimates else 0
        if least and least > (free := _measure_gpu(self.device)[1]):
            return BaseModelError(
                f"the GPU needs about {_gb(least)}, and has {_gb(free)} free",
                hint="end what else runs there, or name another --device",
            )
        return None

    def describe(self) -> list[str]:
        """For people, a fact a line."""
        width = max(map(len, self.needs))
        rows = [f"{name:<{width}}  {_describe_need(need)}" for name, need in self.needs.items()]
        lines = [f"{'needs' if not n else '':<12}{row}" for n, row in enumerate(rows)]
        if self.missing:
            lines.append(f"disk        {_gb(free_bytes())} free, {_gb(self.missing_bytes)} needed")
        if memory := self.memory:
            name, free = _measure_gpu(self.device)
            needed = ", ".join(f"{_gb(n)} at chunks of {tokens:,}" for tokens, n in memory.items())
            lines.append(f"gpu         {name}, {_gb(free)} free, about {needed} needed")
        if (plan := self.plan) is not None:
            lines += [
                f"tokens      {plan.describe_tokens()}",
                f"rank        {plan.file_rank}, {plan.adapter_bytes / 1e6:,.1f} MB",
                f"time        {describe_estimate(estimate_seconds(plan, self.device))}",
            ]
        return lines

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        fault = self.find_fault()
        rows = [
            {"name": name, "on_disk": True}
            if need is None
            else {
                "name": name,
                "on_disk": False,
                "commit": need.commit,
                "size_bytes": need.missing_bytes,
                "access": need.refusal is None,
            }
            for name, need in self.needs.items()
        ]
        return {
            "needs": rows,
            "device": self.device,
            "disk_free_bytes": free_bytes(),
            "disk_needed_bytes": self.missing_bytes,
            "gpu_needed_bytes": {str(tokens): n for tokens, n in self.memory.items()},
            "fault": None if fault is None else {"message": fault.message, "hint": fault.hint},
        }


def look(options: CompileOptions, intake: Intake | None = None) -> Preflight:
    """Look at what a run would need; documents are planned if anything has to be fetched.

    Raises D2LError where the device, the checkpoint or a model is none at all.
    """
    device = pick_device(options.device)
    needs, network = open_to_plan(
        options.checkpoint, base=options.base, embedder=options.embedder, offline=options.offline
    )
    found = Preflight(needs, device, network)
    if any(listing.refusal for listing in found.missing):
        return replace(found, network=None)
    if intake is None or network is None or not found.missing:
        return found
    return replace(found, plan=prepare(intake, options, network=network))


def estimate_reading(network: AnyNetwork, n_tokens: int, device: str) -> int:
    """About how many bytes a base and what it reads of a chunk of so many tokens take.

    The base's layers up to the last that is read; the states that are read, twice; in attention
    without a fused kernel three matrices of tokens by tokens for each head (two in the base's
    precision, one in fp32) and two masks; and in the network three values of four times the width.
    """
    reader, reading = network.reader, network.config.reading
    config = reader.config
    size = 4 if network.imposes_on_base else pick_dtype(device).itemsize
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    numbers = count_parameters(reader, reading.n_layers)
    numbers += n_tokens * width * (2 * len(reading.hidden_states) + 3 * 4)
    if reader.family.attention == "eager":
        numbers += n_tokens * n_tokens * (heads * 4 + 2)
    return numbers * size


def count_parameters(files: BaseFiles, n_layers: int) -> int:
    """Numbers in a base without its head and without the layers from `n_layers` on."""
    with torch.device("meta"):
        model: Any = transformers.AutoModel.from_config(files.config)  # type: ignore[no-untyped-call]
    unread = sum(p.numel() for layer in model.layers[n_layers:] for p in layer.parameters())
    return int(sum(p.numel() for p in model.parameters()) - unread)


def _count_bytes(network: AnyNetwork, listing: Listing | None) -> int:
    """Bytes of a network's weights."""
    if listing is not None:
        return sum(listing.sizes.values())
    path = network.files.path
    return find_format(path).find_weights(path).stat().st_size


def _measure_gpu(device: str) -> tuple[str, int]:
    """A GPU's name, and how many bytes of its memory are free."""
    return torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)[0]


def _describe_need(listing: Listing | None) -> str:
    if listing is None:
        return "on disk"
    refusal = listing.refusal
    access = "yes" if refusal is None else f"no, {refusal.hint}"
    return f"{_gb(listing.missing_bytes)}  commit {listing.commit[:12]}  access: {access}"


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
