"""Adapter + question → answer, through PEFT and the prompt stored with the adapter.

One model is in memory; with the adapter switched off it is the base.
"""

import contextlib
import itertools
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from d2l.adapters.adapter_paths import find_adapter
from d2l.adapters.info import read_info
from d2l.adapters.parts import Parts
from d2l.adapters.peft_folder import AdapterContent, pick_torch_dtype, write_adapter
from d2l.answer.asked import Asked, find_parts
from d2l.answer.chat_prompts import TokenizerFolder, find_chat
from d2l.answer.options import AskOptions
from d2l.answer.peft_loading import add_lora, check_alone, load_lora
from d2l.answer.prompts import find_opening
from d2l.answer.torch_engine import TorchEngine
from d2l.bases.catalog import find_used
from d2l.bases.devices import pick_device, pick_dtype
from d2l.bases.models import find_base, load_causal
from d2l.errors import AdapterError
from d2l.memory import memory_errors
from d2l.parts.kept import PartOptions
from d2l.progress import log_time

_log = logging.getLogger(__name__)


@dataclass
class AdaptedModel(Asked):
    """A loaded base with an adapter on it. `model` is the PeftModel, which `engine` runs, and
    `name` the adapter's name there. `add_adapter` puts others beside it."""

    engine: TorchEngine = field(init=False, repr=False)
    model: Any = field(repr=False, kw_only=True)  # peft.PeftModel
    name: str = field(default="default", repr=False, kw_only=True)

    @classmethod
    def from_pretrained(
        cls,
        adapter: str | Path | AdapterContent,
        *,
        base: str | None = None,
        device: str = "auto",
        dtype: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> "AdaptedModel":
        """Load a base with an adapter on it.

        adapter: a folder, a name on the hub (org/repo[@revision]), or an adapter in memory.
        base: a folder, GGUF file, alias or hub name; None: the base that the adapter names.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". dtype: of the base, "bf16", "fp16" or
        "fp32"; None: bf16 where it is faster. revision: of the adapter's repository.
        local_files_only: open no socket.

        Raises AdapterError or BaseModelError.
        """
        options = AskOptions(base, device, offline=local_files_only, dtype=dtype)
        if not isinstance(adapter, AdapterContent):
            folder = find_adapter(adapter, revision=revision, local_files_only=local_files_only)
            return cls.load(folder, options)
        with _in_folder(adapter) as folder:
            loaded = cls.load(folder, options)
        loaded.info = replace(loaded.info, folder=Path(adapter.name))
        return loaded

    @classmethod
    @memory_errors()
    def load(cls, adapter: Path, options: AskOptions) -> "AdaptedModel":
        """Load the base and put the adapter of a folder on it; raises D2LError."""
        device = pick_device(options.device)
        info = read_info(adapter)
        check_alone(info)
        parts = find_parts(info, options.parts)
        name = str(info.config.get("base_model_name_or_path") or "")
        if not name and options.base is None:
            raise AdapterError(f"{adapter}: does not name its base", hint="name it with --base")
        given = options.base or find_used(name, info.base_sha256)
        base = find_base(name, override=given, offline=options.offline)
        dtype = pick_dtype(device) if options.dtype is None else pick_torch_dtype(options.dtype)
        model = load_causal(base, device=device, dtype=dtype)
        with log_time(_log, "put the adapter %s on", adapter):
            tuned = load_lora(info, model)
        own = TokenizerFolder(base.folder)
        chat, opening = find_chat(info, own), find_opening(info, parts, count_vocabulary(model))
        window = int(model.config.get_text_config().max_position_embeddings)
        loaded = cls(info, chat, own, opening, window, options, model=tuned)
        loaded.limit_answers()
        loaded.take_parts(parts)
        return loaded

    def take_parts(self, parts: Parts | None) -> None:
        """Answer with these parts of the adapter from now on; None: with the whole adapter."""
        self.engine = TorchEngine(self.model)
        super().take_parts(parts)

    def activate(self) -> None:
        """Put this adapter into effect on the model."""
        self.model.set_adapter(self.name)

    def unload(self) -> None:
        """Delete this adapter from the model."""
        self.model.delete_adapter(self.name)

    def set_adapter(self, adapter: str | Path | AdapterContent) -> None:
        """Replace the adapter by another adapter of the same base; the base stays in memory.

        adapter: as for `from_pretrained`. Raises AdapterError; the old adapter then stays on.
        """
        if isinstance(adapter, AdapterContent):
            with _in_folder(adapter) as folder:
                self.set_adapter(folder)
            self.info = replace(self.info, folder=Path(adapter.name))
            return
        folder = find_adapter(adapter, local_files_only=self.options.offline)
        try:
            other = add_adapter(self, folder)
        except AdapterError:
            self.activate()
            raise
        other.activate()
        self.unload()
        self.name = other.name
        self.info, self.chat, self.opening = other.info, other.chat, other.opening
        self.engine, self.whole, self.kept = other.engine, other.whole, other.kept
        self.whole.prompts = self


@contextlib.contextmanager
def _in_folder(adapter: AdapterContent) -> Iterator[Path]:
    """Write an adapter in memory to a temporary folder: tokenizers are only read from files."""
    with tempfile.TemporaryDirectory(prefix="d2l-adapter-") as folder:
        yield write_adapter(adapter, Path(folder, "adapter.lora"))


def count_vocabulary(model: Any) -> int:
    """Count the tokens of a loaded base."""
    return int(model.config.get_text_config().vocab_size)


def add_adapter(adapted: AdaptedModel, adapter: Path) -> AdaptedModel:
    """Load another adapter of the same base beside those on the model.

    Both values share the model: activate one before you ask it.
    """
    info, model = read_info(adapter), adapted.model
    names = map("adapter-{}".format, itertools.count())
    name = next(name for name in names if name not in model.peft_config)
    parts = find_parts(info, PartOptions())  # first: an adapter with an error stays off the model
    opening = find_opening(info, parts, count_vocabulary(model))
    chat = find_chat(info, adapted.base)
    add_lora(info, model, name)
    added = replace(adapted, info=info, chat=chat, opening=opening, name=name)
    added.take_parts(parts)
    return added
