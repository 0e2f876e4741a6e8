"""`d2l.Adapter`: a LoRA adapter in memory, with its provenance and the base that answers."""

import tempfile
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2l.adapters.adapter_paths import find_adapter
from d2l.adapters.card import set_license
from d2l.adapters.info import CARD, read_info
from d2l.adapters.peft_folder import AdapterContent, read_content, write_adapter
from d2l.files.hub import PushOptions, push_folder
from d2l.spelling import from_keywords, show_keywords

if TYPE_CHECKING:
    from d2l.answer.cite import Answer
    from d2l.answer.model import AdaptedModel


@dataclass(frozen=True, eq=False, repr=False)
class Adapter(AdapterContent):
    """A LoRA adapter, frozen: `d2l.edit` and `d2l.merge` make a new one.

    weights: `LoraWeights`, fp32, by module; delta = scale · B A, A (rank, d_in), B (d_out, rank).
    config: PEFT's, as adapter_config.json has it. provenance: where it came from (d2l.json); None
    for adapters of other tools. memory: what seats were solved from, keys and values (layers,
    seats, kv_heads · head_dim); None for other networks. texts: card, chat template and tokenizer
    files by name. dtype: what it is written in. name: its folder, or one that suits it.
    """

    @classmethod
    def of(cls, content: AdapterContent) -> "Adapter":
        """Make an `Adapter` of the same values."""
        return cls(**{field.name: getattr(content, field.name) for field in fields(content)})

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, local_files_only: bool = False
    ) -> "Adapter":
        """Read a PEFT LoRA folder, of d2l or of another tool.

        name: a folder, or a repository on the hub (org/repo[@revision][:subfolder]), whose files
        are downloaded unless `local_files_only`. Where modules differ in rank or scale they get one
        rank and one scale, the delta staying as it is.

        Raises AdapterError, also for adapters that are no plain LoRA.
        """
        folder = find_adapter(name, revision=revision, local_files_only=local_files_only)
        return cls.of(read_content(read_info(folder), purpose="taken apart"))

    def __repr__(self) -> str:
        weights = self.weights
        return (
            f"Adapter({self.name!r}, base={weights.base!r}, rank={weights.rank}, "
            f"{len(weights.factors)} modules)"
        )

    @cached_property
    def model(self) -> "AdaptedModel":
        """The adapter on its base, loaded on first use and kept in memory with the adapter.

        Raises AdapterError or BaseModelError. `AdaptedModel.from_pretrained` takes another base,
        device or precision, and its `set_adapter` asks many adapters with one base in memory.
        """
        from d2l.answer.model import AdaptedModel

        return AdaptedModel.from_pretrained(self)

    def ask(
        self,
        question: str,
        *,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        page: str | None = None,
    ) -> "Answer":
        """Answer one question; return the text, with `place` and `passage`. Keywords and errors: as
        `AdaptedModel.ask`."""
        return self.model.ask(
            question, max_new_tokens=max_new_tokens, temperature=temperature, page=page
        )

    def save_pretrained(
        self, folder: str | Path, *, dtype: str | None = None, force: bool = False
    ) -> Path:
        """Write the adapter as a PEFT folder, whole or not at all; return the folder.

        dtype: "bf16", "fp16" or "fp32"; None: its own. force: replace what d2l wrote there before.
        The same values give the same bytes. Raises AdapterError where the folder may not be
        replaced or a value is not finite in that precision, D2LError where it cannot be written.
        """
        return write_adapter(self._in(dtype), Path(folder), force=force)

    @show_keywords(PushOptions)
    def push_to_hub(
        self, repo_id: str, *, license: str | None = None, dtype: str | None = None, **options: Any
    ) -> str:
        """Upload the adapter as one commit to a model repository; return the commit's address.

        repo_id: org/repo, made where there is none. license: for the card, as the hub spells it.
        dtype: as for `save_pretrained`. Further keywords: fields of `PushOptions`, with the names
        of huggingface_hub. Raises AdapterError.
        """
        adapter, wanted = self._in(dtype), from_keywords(PushOptions, options)
        if license is not None:
            card = set_license(self.texts.get(CARD, ""), license)
            adapter = replace(adapter, texts={**self.texts, CARD: card})
        with tempfile.TemporaryDirectory(prefix="d2l-push-") as folder:
            out = write_adapter(adapter, Path(folder, "adapter.lora"), called=repo_id)
            return push_folder(out, repo_id, wanted)

    def apply_to(self, model: Any, *, adapter_name: str = "default") -> Any:
        """Put this adapter on a model, and return the `peft.PeftModel`; nothing is written to disk.

        model: the adapter's base as a causal model of transformers, which PEFT changes in place, or
        a PeftModel, which gets one adapter more. Weights are those that `save_pretrained` would
        write, in fp32 as PEFT loads them. Raises AdapterError where the shapes do not fit.
        """
        from d2l.answer.peft_loading import apply_adapter

        return apply_adapter(self, model, adapter_name)

    def _in(self, dtype: str | None) -> "Adapter":
        """Return the adapter for another precision, which its d2l.json then names."""
        provenance = self.provenance
        if dtype is None or dtype == self.dtype:
            return self
        if provenance is not None and provenance.options.dtype is not None:
            options = provenance.options.model_copy(update={"dtype": dtype})
            provenance = provenance.model_copy(update={"options": options})
        lock = self.lock
        if lock is not None:
            lock = {**lock, "options": {**lock["options"], "dtype": dtype}}
        return replace(self, dtype=dtype, provenance=provenance, lock=lock)
