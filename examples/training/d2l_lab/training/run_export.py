"""Export of a run as a checkpoint folder: the files that `--checkpoint` needs, and a card.

Reads the folder of a run and the facts of its recipe; computes nothing.
"""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from safetensors.torch import save

from d2l.errors import CheckpointError
from d2l.files.atomic import building
from d2l.hypernets.checkpoints import refuse_checkpoint
from d2l.hypernets.formats.native import compact_tensors, compact_text, read_tensors
from d2l.hypernets.networks import read_config
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.seats.config import SeatsConfig
from d2l_lab.training.learners.recipes import KINDS
from d2l_lab.training.run_folder import Row, RunFolder

_WEIGHTS = "model.safetensors"
_COPIED = ("config.json", "statistics.safetensors", "familiarity.safetensors")
_AVERAGED = 50  # steps of the log behind the loss on the card
_CALLED = {"seats": "seat", "doc_to_lora": "Doc-to-LoRA", "text_to_lora": "Text-to-LoRA"}
_COMPACT = {"seats": compact_tensors, "text_to_lora": compact_text}
#: Commands that use and measure a network, by what the network reads.
_USES = {
    "documents": ("d2l compile manual.pdf -o manual.lora", "d2l probe"),
    "descriptions": ('t2l make "what the task is" -o task.lora', "d2l-lab eval"),
}


def export_run(run: Path, target: Path, *, compact: bool = False, force: bool = False) -> Path:
    """Write the network of a run as a checkpoint folder, whole or not at all.

    `compact` stores matrices as 8-bit rows (seat and text networks only). Raises CheckpointError
    if `run` is not the folder of a run, or has saved nothing yet.
    """
    if not RunFolder(run).has_log:
        raise CheckpointError(
            f"{run}: is not the folder of a run", hint="name what d2l-lab train wrote with --out"
        )
    if not (run / _WEIGHTS).is_file():
        raise CheckpointError(
            f"{run}: the run has saved no state yet", hint="let it go on until it has"
        )
    config = read_config(run)
    if compact and config.kind not in _COMPACT:
        raise CheckpointError(
            f"{run}: only seat and text networks have a compact form", hint="leave --compact out"
        )
    refuse = partial(refuse_checkpoint, target, force=force)
    refuse()
    card = write_card(run, config, compact=compact)
    with building(target, refuse) as folder:
        for name in (*_COPIED, _WEIGHTS):
            if (run / name).is_file():
                shutil.copyfile(run / name, folder / name)
        if compact:
            # One metadata entry: safetensors writes several in an order that changes between runs.
            tensors = _COMPACT[config.kind](read_tensors(run / _WEIGHTS))
            data = save(tensors, metadata={"format": "pt"})
            (folder / _WEIGHTS).write_bytes(data)
        (folder / "README.md").write_text(card, "utf-8")
    return target


def write_card(run: Path, config: HypernetConfig, *, compact: bool) -> str:
    """Write the card of a run's network: its facts, and the recipes of its training."""
    folder = RunFolder(run)
    step = folder.read_step()
    rows = [row for row in folder.read_log() if row["step"] <= step]
    recipes = folder.read_recipes()
    n_values = sum(tensor.numel() for tensor in read_tensors(run / _WEIGHTS).values())
    facts = [
        ("base", config.base),
        ("network", f"{config.kind}, {n_values:,} parameters"),
        ("weights", "8-bit rows" if compact else "fp32"),
        ("steps", f"{step:,}"),
    ]
    if rows:
        facts.append(("training time", f"{rows[-1]['seconds'] / 3600:.2f} hours"))
        facts += list(_describe_losses(rows[-_AVERAGED:]))
    uses = _list_uses(config)
    used = ", ".join(f"`{command} --checkpoint FOLDER`" for command, _ in uses)
    measured = ", ".join(f"`{command}`" for _, command in uses)
    parts = [
        f"# A {_CALLED[config.kind]} network for {config.base}\n",
        f"Written by `d2l-lab train` and `d2l-lab export`. Use it by naming this folder: {used}.\n",
        _table(("", ""), facts),
        *(_describe_recipe(entry, config.kind) for entry in recipes),
        "The licenses of the data are not known to the program that wrote this card: add them "
        f"before you pass the network on, and what you measured ({measured}).\n",
    ]
    return "\n".join(parts)


def _list_uses(config: HypernetConfig) -> list[tuple[str, str]]:
    """List the commands for a network; seat networks record what they read."""
    reads = "descriptions" if config.kind == "text_to_lora" else "documents"
    if isinstance(config, SeatsConfig):
        reads = config.reads
    return [use for read, use in _USES.items() if reads in (read, "both")]


def _describe_losses(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Average the log's last rows."""
    facts = []
    for key, name in (("loss", "loss"), ("answers", "loss of answers"), ("general", "divergence")):
        values = [row[key] for row in rows if key in row]
        if values:
            mean = sum(values) / len(values)
            facts.append((f"last {name}", f"{mean:.3f} nats, mean of {len(values)} steps"))
    return facts


def _describe_recipe(entry: Row, kind: str) -> str:
    """Show the recipe of a run of this kind of network, from a step on."""
    others = KINDS.keys() - {kind}
    recipe = {key: value for key, value in entry["recipe"].items() if key not in others}
    text = json.dumps(recipe, indent=1, ensure_ascii=False)
    return f"## From step {entry['from_step']:,}\n\n```json\n{text}\n```\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in cells)} |\n" for cells in lines)
