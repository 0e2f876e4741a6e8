"""Adapters put on their tiny bases, and what is asked of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.errors import D2LError
from tests import tiny
from tests.compiled import Compiled

QUESTION = "How often is the filter rinsed?"
ALL_WORDS = tiny.SYSTEM + "".join(f" {word}" for word in tiny.WORDS)
WINDOW = 512  # of the tiny bases
N_TOKENS = 16


def load(done: Compiled, adapter: Path | None = None, **changes: Any) -> AdaptedModel:
    values = {"base": str(done.base), "device": "cpu", "max_new_tokens": N_TOKENS, "offline": True}
    return AdaptedModel.load(adapter or done.adapter, AskOptions(**(values | changes)))


def copy_adapter(done: Compiled, to: Path) -> Path:
    return shutil.copytree(done.adapter, to / "copy.lora")


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def change_weights(adapter: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """Change an adapter's weights, as of a version of d2l that recorded no digest of them."""
    path = adapter / "adapter_model.safetensors"
    tensors = {name: change(name, tensor) for name, tensor in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    change_json(adapter / "d2l.json", weights_sha256=None)


def record_prompts(asker: AdaptedModel) -> list[list[int]]:
    """Token ids of every prompt from now on: what the model's first pass of an answer reads."""
    prompts: list[list[int]] = []
    embed = asker.model.get_input_embeddings()

    def note(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        ids = inputs[0][0].tolist()
        if len(ids) > 1:  # later passes read one token
            prompts.append(ids)

    embed.register_forward_pre_hook(note)
    return prompts


def refuse(load_it: Callable[[], object]) -> D2LError:
    with pytest.raises(D2LError) as caught:
        load_it()
    return caught.value
