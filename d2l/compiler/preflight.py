"""Preflight of a first run: its files, this machine's access to them, disk and memory.

Options in, facts and the first fault out. Only configuration is downloaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from d2l.bases import devices
from d2l.bases.activations import count_together
from d2l.bases.footprint import count_reading
from d2l.compiler.plan import CompilePlan, prepare
from d2l.compiler.timing import describe_estimate, estimate_seconds
from d2l.documents.intake import Intake
from d2l.errors import BaseModelError, D2LError
from d2l.files.hub import Listing, Need, free_bytes
from d2l.hypernets import networks
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.options import CompileOptions, NetworkOptions


@dataclass(frozen=True)
class Preflight:
    """Needs of a run. `needs`: the checkpoint and its models, None for those on disk. No `network`
    if the hub refuses one of them. `plan`: that of the documents, if there are any."""

    device: str
    needs: Mapping[str, Listing | None]
    network: AnyNetwork | None
    plan: CompilePlan | None = None

    @property
    def missing(self) -> list[Listing]:
        """Files to download."""
        return [need for need in self.needs.values() if need is not None]

    @cached_property
    def disk(self) -> tuple[int, int]:
        """Free bytes of the disk, and bytes needed."""
        return free_bytes(), sum(need.missing_bytes for need in self.missing)

    @cached_property
    def gpu(self) -> tuple[str, int] | None:
        """The GPU's name, and the free bytes of its memory."""
        if not devices.is_cuda(self.device):
            return None
        return torch.cuda.get_device_name(self.device), torch.cuda.mem_get_info(self.device)[0]

    @cached_property
    def memory(self) -> dict[int, int]:
        """Estimated bytes of the GPU's memory, by the length of chunks in tokens."""
        network, plan = self.network, self.plan
        if network is None or self.gpu is None:
            return {}
        lengths = network.chunk_lengths
        if plan is not None:
            lengths = (max(len(chunk.token_ids) for chunk in plan.chunks),)
        own = _count_bytes(network, next(iter(self.needs.values())))
        return {n: own + estimate_memory(network, n, self.device) for n in lengths}

    def list_faults(self) -> list[D2LError]:
        """List faults that stop the run, the first to mend first, each with a hint."""
        faults = [need.refusal for need in self.missing if need.refusal is not None]
        free, needed = self.disk
        if needed > free:
            message = f"{_gb(needed)} have to be fetched, and the disk has {_gb(free)} free"
            hint = "free some space, or name a folder on another disk in HF_HOME"
            faults.append(BaseModelError(message, hint=hint))
        return faults

    def list_doubts(self) -> list[D2LError]:
        """List possible faults, by estimates, each with a hint."""
        least = min(self.memory.values(), default=0)
        if self.gpu is None or least <= self.gpu[1]:
            return []
        message = f"the GPU needs about {_gb(least)}, and has {_gb(self.gpu[1])} free"
        return [BaseModelError(message, hint="end what else runs there, or use another --device")]

    def describe(self, *, with_plan: bool = True) -> list[str]:
        """Describe the facts, a line each."""
        width = max(map(len, self.needs))
        rows = [f"{name:<{width}}  {_describe_need(need)}" for name, need in self.needs.items()]
        lines = [f"{'' if n else 'needs':<12}{row}" for n, row in enumerate(rows)]
        lines.append("disk        {} free, {} needed".format(*map(_gb, self.disk)))
        if self.gpu is not None:
            needed = [f"{_gb(n)} at chunks of {k:,}" for k, n in self.memory.items()]
            needs = f", about {', '.join(needed)} needed" if needed else ""
            lines.append(f"gpu         {self.gpu[0]}, {_gb(self.gpu[1])} free{needs}")
        if self.plan is not None and with_plan:
            seconds = estimate_seconds(self.plan, self.device)
            lines.append(f"tokens      {self.plan.describe_tokens()}")
            lines.append(f"rank        {self.plan.file_rank}, {_gb(self.plan.adapter_bytes)}")
            lines.append(f"time        {describe_estimate(seconds)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Describe the facts as JSON values."""
        faults = [*self.list_faults(), *self.list_doubts()]
        return {
            "device": self.device,
            "needs": [_need_to_json(name, need) for name, need in self.needs.items()],
            "disk_free_bytes": self.disk[0],
            "disk_needed_bytes": self.disk[1],
            "gpu": self.gpu and {"name": self.gpu[0], "free_bytes": self.gpu[1]},
            "gpu_needed_bytes": self.memory,
            "faults": [{"message": fault.message, "hint": fault.hint} for fault in faults],
        }


def list_needs(
    options: NetworkOptions, intake: Intake | None = None, *, need: Need = "plan"
) -> Preflight:
    """List the needs of a run, and plan documents, unless the hub refuses the network. With the
    `need` "weights" the network has its weights if no files are missing.

    Raises D2LError for an unknown device, checkpoint or model.
    """
    device = devices.pick_device(options.device)
    needs, network = networks.list_needs(options.checkpoint, **options.locate(), need=need)
    found = Preflight(device, needs, network)
    if network is None or any(missing.refusal for missing in found.missing):
        return replace(found, network=None)
    if intake is None:
        return found
    assert isinstance(options, CompileOptions)  # only these come with documents
    return replace(found, plan=prepare(intake, options, network))


def estimate_memory(network: AnyNetwork, n_tokens: int, device: str) -> int:
    """Estimate the bytes that the base and the states of chunks of so many tokens take."""
    dtype, beside = network.pick_dtype(device), network.count_working(n_tokens)
    together = max(n_tokens, count_together(device))
    return count_reading(network.reader, network.config.reading, together, device, dtype, beside)


def _count_bytes(network: AnyNetwork, listing: Listing | None) -> int:
    """Bytes of a network's weights."""
    if listing is not None:
        return sum(listing.sizes.values())
    file = network.format.find_weights(network.files.path)
    names = {file.name, *network.format.weights}
    return sum(p.stat().st_size for name in names if (p := file.with_name(name)).is_file())


def _describe_need(need: Listing | None) -> str:
    if need is None:
        return "on disk"
    access = "yes" if need.refusal is None else f"no, {need.refusal.hint}"
    return f"{_gb(need.missing_bytes)}  commit {need.commit[:12]}  access: {access}"


def _need_to_json(name: str, need: Listing | None) -> dict[str, Any]:
    if need is None:
        return {"name": name, "on_disk": True}
    facts = {"commit": need.commit, "size_bytes": need.missing_bytes}
    return {"name": name, "on_disk": False, **facts, "access": need.refusal is None}


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
