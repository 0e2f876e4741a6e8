"""A run's Text-to-LoRA network → its compact form: matrices as 8-bit rows."""

import shutil
from pathlib import Path

from safetensors.torch import save

from d2l.hypernets.familiarity import FAMILIARITY_FILE
from d2l.hypernets.formats import native
from d2l.hypernets.formats.int8 import compact_text


def compact_text_folder(run: Path, folder: Path) -> None:
    """Write the compact form of the network in `run` into `folder`."""
    for name in (native.CONFIG_FILE, FAMILIARITY_FILE):
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    # One metadata entry: safetensors writes several in an order that changes from run to run.
    tensors = compact_text(native.read_tensors(run / native.WEIGHTS_FILE))
    (folder / native.WEIGHTS_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))
