"""Export of a run as a checkpoint folder: the network's files, and a card with its recipes."""

import json
import shutil
from functools import partial
from pathlib import Path

from safetensors.torch import save

from d2l.errors import CheckpointError
from d2l.files.atomic import building
from d2l.hypernets.formats.native import compact_tensors, compact_text, read_tensors
from d2l.hypernets.networks import read_config
from d2l_lab.checkpoints import refuse_checkpoint
from d2l_lab.training.run_folder import RunFolder

_WEIGHTS = "model.safetensors"
_COPIED = ("config.json", "statistics.safetensors", _WEIGHTS)
_COMPACT = {"seats": compact_tensors, "text_to_lora": compact_text}


def export_run(run: Path, target: Path, *, compact: bool = False, force: bool = False) -> Path:
    """Write the network of a run as a checkpoint folder, whole or not at all.

    `compact` stores matrices as 8-bit rows. Raises CheckpointError if `run` is not the folder of a
    run, or has saved nothing yet.
    """
    folder = RunFolder(run)
    if not folder.has_log:
        raise CheckpointError(
            f"{run}: is not the folder of a run", hint="name what d2l-lab train wrote with --out"
        )
    if not (run / _WEIGHTS).is_file():
        raise CheckpointError(
            f"{run}: the run has saved no state yet", hint="let it go on until it has"
        )
    config, step = read_config(run), folder.read_step()
    refuse = partial(refuse_checkpoint, target, force=force)
    refuse()
    with building(target, refuse) as made:
        for name in _COPIED:
            if (run / name).is_file():
                shutil.copyfile(run / name, made / name)
        if compact:
            # One metadata entry: safetensors writes several in an order that changes between runs.
            tensors = _COMPACT[config.kind](read_tensors(run / _WEIGHTS))
            (made / _WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
        recipes = json.dumps(folder.read_recipes(), indent=1, ensure_ascii=False)
        (made / "README.md").write_text(
            f"# A {config.kind} network for {config.base}\n\n"
            f"Written by `d2l-lab` after {step:,} steps of training. Add the licenses of the data "
            f"before you pass it on. Recipes:\n\n```json\n{recipes}\n```\n",
            "utf-8",
        )
    return target
