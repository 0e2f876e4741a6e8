"""Adapter + question → answer, through PEFT and the prompt stored with the adapter.

One model in memory; the base alone is the same model with the adapter switched off.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import peft
import transformers
from jinja2 import TemplateError
from safetensors import SafetensorError

from d2l.adapters.info import CHAT_TEMPLATE, AdapterInfo, read_info
from d2l.bases.models import BaseFiles, find_base, load_causal, pick_device, pick_dtype
from d2l.bases.quiet import quiet_transformers
from d2l.errors import AdapterError, BaseModelError
from d2l.inference.prompt_styles import WORDINGS, Turns, Wording, fit_document

Emit = Callable[[str], None]

#: Stands for an answer where only what follows it is wanted.
_MARK = "\u2042answer\u2042"


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
        return self._generate(self.prompt(question), emit)

    def answer_alone(self, question: str, emit: Emit = discard) -> str:
        """Answer with the base alone, in its own chat template."""
        with self.model.disable_adapter():
            return self._generate(self.prompt_alone(question), emit)

    def answer_with_document(
        self, question: str, document: str, emit: Emit = discard
    ) -> tuple[str, int]:
        """Answer with the base and the document in its prompt: (answer, tokens left out).

        A document that does not fit into the base's window is cut at its end.
        """
        prompt, left_out = self.prompt_about(
            document, question, WORDINGS["plain"], n_answer=self.options.max_tokens
        )
        with self.model.disable_adapter():
            return self._generate(prompt, emit), left_out

    def prompt(self, question: str) -> list[int]:
        """Ids of the prompt that the adapter answers to; refused where it cannot."""
        ids = self._render(self.tokenizer, [{"role": "user", "content": question}])
        if tuple(ids[: len(self.opening)]) != self.opening:
            raise AdapterError(
                f"{self.info.folder}: the prompt does not begin with the adapter's opening, "
                "so its memory cannot be read",
                hint=f"{CHAT_TEMPLATE} was changed, or the base's tokenizer is another one",
            )
        return ids

    def prompt_alone(self, question: str) -> list[int]:
        """Ids of the base's own prompt for the question."""
        return self._render(self.base_tokenizer, [{"role": "user", "content": question}])

    def prompt_after(self, turns: Turns, question: str) -> list[int]:
        """Ids of the base's own prompt for the question behind earlier turns."""
        return self._render(self.base_tokenizer, [*turns, {"role": "user", "content": question}])

    def prompt_about(
        self, document: str, question: str, wording: Wording, *, n_answer: int
    ) -> tuple[list[int], int]:
        """Ids of the base's prompt with the document in it, and how many of its tokens are left
        out so that `n_answer` more fit into the base's window."""
        with quiet_transformers():  # it warns of texts longer than the window, which is the point
            encoded = self.base_tokenizer(
                document, add_special_tokens=False, return_offsets_mapping=True
            )
        return fit_document(
            document,
            [start for start, _ in encoded["offset_mapping"]],
            lambda text: self._render_wording(wording, text, question),
            window=int(self.model.config.max_position_embeddings) - n_answer,
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a text as the base's tokenizer makes them, nothing added."""
        with quiet_transformers():  # it warns of texts longer than the window
            return list(self.base_tokenizer(text, add_special_tokens=False)["input_ids"])

    def end_token(self) -> int:
        """The token that ends an answer in the base's chat template, else in its texts."""
        question = {"role": "user", "content": "?"}
        answer = {"role": "assistant", "content": _MARK}
        with quiet_transformers():
            text = str(self.base_tokenizer.apply_chat_template([question, answer], tokenize=False))
            after = self.base_tokenizer(text.rpartition(_MARK)[2], add_special_tokens=False)
        control = self.base_tokenizer.added_tokens_decoder
        found = [n for n in after["input_ids"][:1] if n in control and control[n].special]
        return int(found[0] if found else self.base_tokenizer.eos_token_id)

    def _render_wording(self, wording: Wording, document: str, question: str) -> list[int]:
        try:
            return self._render(self.base_tokenizer, wording.turns(document, question))
        except TemplateError:  # Gemma's template, for one, refuses system turns
            turns = wording.turns_without_system(document, question)
            return self._render(self.base_tokenizer, turns)

    def _render(self, tokenizer: Any, turns: Turns) -> list[int]:
        if not tokenizer.chat_template:
            raise BaseModelError(
                f"{tokenizer.name_or_path}: has no chat template, so it cannot be asked",
                hint="name the base's instruction-tuned version with --base",
            )
        with quiet_transformers():
            ids = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_dict=False
            )
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
    with _loading(adapter):
        tuned = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
    base_tokenizer = _load_tokenizer(base.folder)
    tokenizer = _find_tokenizer(adapter, base_tokenizer)
    return Asker(info, tuned, tokenizer, base_tokenizer, options, _find_opening(info))


def exchange_adapter(asker: Asker, adapter: Path) -> Asker:
    """Take the adapter off and put another one of the same base on, which is not loaded again.

    The asker given is of no use afterwards: its model is the new one's.
    """
    info, model = read_info(adapter), asker.model
    (worn,) = model.peft_config
    name = "other" if worn == "default" else "default"
    with _loading(adapter):
        model.load_adapter(str(adapter), adapter_name=name, torch_device=str(model.device))
    model.set_adapter(name)
    model.delete_adapter(worn)
    model.eval()
    return replace(
        asker,
        info=info,
        tokenizer=_find_tokenizer(adapter, asker.base_tokenizer),
        opening=_find_opening(info),
    )


@contextlib.contextmanager
def _loading(adapter: Path) -> Iterator[None]:
    """Nothing printed inside, and what PEFT raises in one line."""
    try:
        with quiet_transformers():
            yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise AdapterError(
            f"{adapter}: PEFT cannot load this adapter",
            hint=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}",
        ) from error


def _find_tokenizer(adapter: Path, base_tokenizer: Any) -> Any:
    """The adapter's own tokenizer and chat template, where it has them."""
    own = (adapter / CHAT_TEMPLATE).is_file() and (adapter / "tokenizer.json").is_file()
    return _load_tokenizer(adapter) if own else base_tokenizer


def _load_tokenizer(folder: Path) -> Any:
    try:
        with quiet_transformers():
            return transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseModelError(
            f"{folder}: the tokenizer cannot be loaded",
            hint="the folder needs tokenizer.json and tokenizer_config.json, undamaged",
        ) from error


def _find_opening(info: AdapterInfo) -> tuple[int, ...]:
    """Ids that prompts must begin with; none for other networks and other tools."""
    opening = info.provenance.prompt.opening if info.provenance is not None else None
    return () if opening is None else opening.ids


def _find_base(info: AdapterInfo, options: AskOptions) -> BaseFiles:
    name = str(info.config.get("base_model_name_or_path") or "")
    if not name and options.base is None:
        raise AdapterError(f"{info.folder}: does not name its base", hint="name it with --base")
    return find_base(name, override=options.base, offline=options.offline)


def _check_fit(info: AdapterInfo, model: Any) -> None:
    """Refuse a base whose linear layers do not have the adapter's shapes."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name in info.tensors:
        if ".lora_A." not in name and ".lora_B." not in name:
            continue
        module = name.removeprefix("base_model.model.").split(".lora_")[0]
        a = info.tensors.get(name.replace(".lora_B.", ".lora_A."))
        b = info.tensors.get(name.replace(".lora_A.", ".lora_B."))
        if a is None or b is None or (len(a.shape), len(b.shape)) != (2, 2):
            raise AdapterError(
                f"{info.folder}: {module} does not have two matrices, lora_A and lora_B",
                hint="the adapter is damaged: compile the document again",
            )
        expected = (b.shape[0], a.shape[1])
        found = shapes.get(f"{module}.weight")
        if found != expected:
            raise AdapterError(
                f"{info.folder}: {module} is {expected[0]} × {expected[1]}, the base has "
                + ("no such module" if found is None else f"{found[0]} × {found[1]}"),
                hint="name the base that the adapter was made for with --base",
            )
