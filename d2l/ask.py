"""Adapter + question → answer, through PEFT and the prompt stored with the adapter.

One model in memory; the base alone is the same model with the adapter switched off.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import transformers

from d2l.adapters.provenance import CHAT_TEMPLATE, AdapterInfo, read_info
from d2l.bases.models import BaseFiles, find_base, load_causal, pick_device, pick_dtype
from d2l.bases.quiet import quiet_transformers
from d2l.errors import AdapterError

Emit = Callable[[str], None]

#: How the base is asked about a document in its prompt.
_WITH_DOCUMENT = "{document}\n\n{question}"


def discard(text: str) -> None:
    """Stream `text` to nowhere."""


@dataclass(frozen=True)
class AskOptions:
    """How to answer; `temperature` 0 is greedy."""

    base: str | None = None
    device: str = "auto"
    max_tokens: int = 64
    temperature: float = 0.0
    offline: bool = False


@dataclass
class Asker:
    """A loaded base with an adapter on it."""

    info: AdapterInfo
    model: Any  # peft.PeftModel
    tokenizer: Any  # with the adapter's own chat template, where it has one
    base_tokenizer: Any
    options: AskOptions
    opening: tuple[int, ...] = field(default=())

    def answer(self, question: str, emit: Emit = discard) -> str:
        """Answer with the adapter; pieces of text go to `emit` as they come."""
        ids = self._prompt(self.tokenizer, question)
        if tuple(ids[: len(self.opening)]) != self.opening:
            raise AdapterError(
                f"{self.info.folder}: the prompt does not begin with the adapter's opening, "
                "so its memory cannot be read",
                hint=f"{CHAT_TEMPLATE} was changed, or the base's tokenizer is another one",
            )
        return self._generate(ids, emit)

    def answer_alone(self, question: str, emit: Emit = discard) -> str:
        """Answer with the base alone, in its own chat template."""
        with self.model.disable_adapter():
            return self._generate(self._prompt(self.base_tokenizer, question), emit)

    def answer_with_document(
        self, question: str, document: str, emit: Emit = discard
    ) -> tuple[str, int]:
        """Answer with the base and the document in its prompt: (answer, tokens left out).

        A document that does not fit into the base's window is cut at its end.
        """
        window = int(self.model.config.max_position_embeddings) - self.options.max_tokens
        empty = self._prompt(
            self.base_tokenizer, _WITH_DOCUMENT.format(document="", question=question)
        )
        ids = self.base_tokenizer(document, add_special_tokens=False)["input_ids"]
        room = max(window - len(empty), 0)
        left_out = max(len(ids) - room, 0)
        kept = self.base_tokenizer.decode(ids[:room]) if left_out else document
        prompt = self._prompt(
            self.base_tokenizer, _WITH_DOCUMENT.format(document=kept, question=question)
        )
        with self.model.disable_adapter():
            return self._generate(prompt, emit), left_out

    def _prompt(self, tokenizer: Any, text: str) -> list[int]:
        turns = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        return list(ids)

    def _generate(self, ids: list[int], emit: Emit) -> str:
        import torch

        prompt = torch.tensor([ids], device=self.model.device)
        sampling = self.options.temperature > 0
        streamer = _Streamer(self.base_tokenizer, emit)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=self.options.max_tokens,
                do_sample=sampling,
                temperature=self.options.temperature if sampling else None,
                top_p=None,
                top_k=None,
                streamer=streamer,
            )
        answer = self.base_tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
        return str(answer).strip()


class _Streamer(transformers.TextStreamer):
    """Hands whole words to a function instead of printing them."""

    def __init__(self, tokenizer: Any, emit: Emit) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._emit = emit

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
        """Receive text that no later token can change."""
        if text:
            self._emit(text)


def load_asker(adapter: Path, options: AskOptions) -> Asker:
    """Load the base and put the adapter on it; raises D2LError."""
    info = read_info(adapter)
    base = _find_base(info, options)
    device = pick_device(options.device)
    model = load_causal(base, device=device, dtype=pick_dtype(device))
    _check_fit(info, model)
    with quiet_transformers():
        tuned = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
        base_tokenizer = transformers.AutoTokenizer.from_pretrained(
            base.folder, local_files_only=True
        )
        own = (adapter / CHAT_TEMPLATE).is_file() and (adapter / "tokenizer.json").is_file()
        tokenizer = (
            transformers.AutoTokenizer.from_pretrained(adapter, local_files_only=True)
            if own
            else base_tokenizer
        )
    opening = (((info.provenance or {}).get("prompt") or {}).get("opening") or {}).get("ids", ())
    return Asker(info, tuned, tokenizer, base_tokenizer, options, tuple(opening))


def _find_base(info: AdapterInfo, options: AskOptions) -> BaseFiles:
    name = str(info.config.get("base_model_name_or_path") or "")
    if not name and options.base is None:
        raise AdapterError(f"{info.folder}: does not name its base", hint="name it with --base")
    return find_base(name, override=options.base, offline=options.offline)


def _check_fit(info: AdapterInfo, model: Any) -> None:
    """Refuse a base whose linear layers do not have the adapter's shapes."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name, tensor in info.tensors.items():
        if ".lora_A." not in name:
            continue
        module = name.removeprefix("base_model.model.").split(".lora_A.")[0]
        d_out = info.tensors[name.replace(".lora_A.", ".lora_B.")].shape[0]
        expected = (d_out, tensor.shape[1])
        found = shapes.get(f"{module}.weight")
        if found != expected:
            raise AdapterError(
                f"{info.folder}: {module} is {expected[0]} × {expected[1]}, the base has "
                + ("no such module" if found is None else f"{found[0]} × {found[1]}"),
                hint="name the base that the adapter was made for with --base",
            )
