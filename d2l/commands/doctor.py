"""The command `d2l doctor`: what is here, what is missing, and the command that gets it."""

import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

from d2l.commands import console
from d2l.commands.cache import describe_cache
from d2l.commands.main import WAITING
from d2l.errors import D2LError
from d2l.version import __version__

_PACKAGES = ("torch", "transformers", "tokenizers", "peft", "gguf", "huggingface_hub")
#: Variables that change what d2l does.
_VARIABLES = (
    "D2L_CHECKPOINT",
    "T2L_CHECKPOINT",
    "D2L_BASE_DTYPE",
    "D2L_ADAPTERS",
    "D2L_CACHE_DIR",
    "D2L_CACHE_MAX_SIZE",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
    *WAITING,
    "CUDA_VISIBLE_DEVICES",
)
#: These are secrets or may hold one: doctor prints that they are set.
_SECRETS = ("D2L_SERVE_TOKEN", "D2L_SERVER", "HF_TOKEN")


def doctor() -> None:
    """Show versions, devices, bases, caches and what is missing.

    Behind what is missing stands the command that gets it. The exit code is 1 if `d2l compile`
    cannot work with its default network. Tokens are not printed.
    """
    values: dict[str, Any] = {
        "versions": {"d2l": __version__, "python": platform.python_version()}
        | {name: _find_version(name) for name in _PACKAGES},
        "machine": _describe_machine(),
        "network": _describe_network(),
        "bases": _list_bases(),
        "cache": _describe_cache(),
        "extras": _list_extras(),
        "variables": {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
        | {name: "set" for name in _SECRETS if os.environ.get(name)},
    }
    console.emit(values, lambda: console.show_rows(_make_rows(values)))
    if values["network"]["fault"]:
        raise typer.Exit(1)


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _describe_machine() -> dict[str, Any]:
    import psutil
    import torch

    from d2l.bases.devices import explain_no_cuda, name_dtype, pick_dtype
    from d2l.bases.precision import find_speedup

    memory, cuda, speedup = psutil.virtual_memory(), torch.cuda, find_speedup()
    cards = [cuda.get_device_properties(n) for n in range(cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpu_kernels": torch.backends.cpu.get_cpu_capability(),
        "base_dtype": name_dtype(pick_dtype("cpu")),
        "bf16_speed": {"chunks": speedup.chunks, "tokens": speedup.tokens},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "memory_bytes": memory.total,
        "available_bytes": memory.available,
        "cuda": [
            {
                "name": card.name,
                "memory_bytes": card.total_memory,
                "capability": f"{card.major}.{card.minor}",
                "bf16": card.major >= 8,
            }
            for card in cards
        ],
        "cuda_fault": (explain_no_cuda() or (None,))[0],
        "mps": torch.backends.mps.is_available(),
    }


def _describe_network() -> dict[str, Any]:
    """Describe the default network, with the fault that keeps it from compiling, if any."""
    from d2l.bases.catalog import locate_base
    from d2l.hypernets.networks import find_checkpoint, read_config
    from d2l.hypernets.registry import default_checkpoint

    values: dict[str, Any] = {"name": default_checkpoint(), "path": None, "fault": None}
    try:
        path = find_checkpoint(values["name"], offline=True).path
        values["path"] = str(path)
        locate_base(read_config(path).base, offline=True)
    except D2LError as error:
        values |= {"fault": error.message, "get": error.hint}
    return values


def _list_bases() -> list[dict[str, Any]]:
    from d2l.bases.catalog import KNOWN, fetch_command, locate

    places = {known: locate(known) for known in KNOWN}
    return [
        {"name": known.alias, "path": str(path), "get": None}
        if path
        else {"name": known.alias, "path": None, "get": fetch_command(known)}
        for known, path in places.items()
    ]


def _describe_cache() -> dict[str, Any]:
    values = describe_cache()
    place = Path(values["cache"]).absolute()
    there = next(path for path in (place, *place.parents) if path.exists())
    return values | {"free_bytes": shutil.disk_usage(there).free}


def _list_extras() -> list[dict[str, Any]]:
    """List the extras of pyproject.toml that users install, with the packages that each lacks."""
    missing: dict[str, list[str]] = {}
    for line in (metadata.requires("d2l") or ()) if _find_version("d2l") else ():
        extra = re.search(r"extra == ['\"]([\w-]+)", line)
        if extra is not None and extra[1] != "dev" and not line.startswith("d2l"):
            package = re.split(r"[^\w.-]", line)[0]
            missing.setdefault(extra[1], []).extend([] if _find_version(package) else [package])
    return [
        {"name": name, "missing": lacks, "get": f"pip install 'd2l[{name}]'" if lacks else None}
        for name, lacks in missing.items()
    ]


def _make_rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Make the lines that are printed for people."""
    machine, network, cache = values["machine"], values["network"], values["cache"]
    rows = [
        ("versions", ", ".join(f"{name} {found}" for name, found in values["versions"].items())),
        ("platform", machine["platform"]),
        ("cpu", "{cpu_kernels}, threads {threads}, cores {cores}".format(**machine)),
        (
            "cpu",
            "bases in {base_dtype}; bf16 is {chunks:.1f} times as fast as fp32 for chunks, "
            "{tokens:.1f} times for single tokens".format(**machine, **machine["bf16_speed"]),
        ),
        (
            "memory",
            f"{_size(machine['memory_bytes'])}, {_size(machine['available_bytes'])} available",
        ),
    ]
    for number, card in enumerate(machine["cuda"]):
        facts = f"{_size(card['memory_bytes'])}, capability {card['capability']}"
        precision = "bf16" if card["bf16"] else "bf16 emulated, which is slow"
        rows.append((f"cuda:{number}", f"{card['name']}, {facts}, {precision}"))
    if machine["cuda_fault"]:
        rows.append(("cuda", machine["cuda_fault"]))
    if machine["mps"]:
        rows.append(("mps", "here"))
    rows.append(("network", f"{network['name']}, {network['path']}"))
    if network["fault"]:
        rows.append(("compile", f"cannot work: {network['fault']} ({network['get']})"))
    for base in values["bases"]:
        rows.append(("base", f"{base['name']}, {base['path'] or _missing(base)}"))
    used = sum(kind["bytes"] for kind in cache["rooms"]) + cache["other_bytes"]
    rows.append(("cache", f"{cache['cache']}, {_size(used)}, {_size(cache['free_bytes'])} free"))
    for extra in values["extras"]:
        rows.append(
            ("extra", f"{extra['name']}, {_missing(extra) if extra['get'] else 'installed'}")
        )
    return [*rows, *(("variable", f"{name}={text}") for name, text in values["variables"].items())]


def _missing(row: dict[str, Any]) -> str:
    return f"missing: {row['get']}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
