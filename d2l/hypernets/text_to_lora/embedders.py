"""Embedders: a task description in, one vector out.

The embedder is the base itself, by its last token, or a sentence encoder, by its first. Reads
safetensors only, and never runs code that comes with a model.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from d2l.bases.chat import make_chat
from d2l.bases.devices import pick_dtype
from d2l.bases.load_errors import quiet_transformers
from d2l.bases.models import BaseFiles, load_frozen
from d2l.bases.tokenizers import load_tokenizer
from d2l.errors import BaseModelError, CheckpointError
from d2l.files.tensors import read_tensors
from d2l.hypernets.formats.fields import read_json
from d2l.hypernets.text_to_lora.sentence_encoder import build_encoder, read_encoder_config

#: Longest description in tokens, as in SakanaAI/text-to-lora, utils/model_loading.py.
MAX_TOKENS = 8192

_UNBOUNDED = 1 << 30
#: A sentence, a paraphrase, and an unrelated sentence.
_TRIPLES = (
    (
        "Translate the following sentence into French.",
        "Translate the following text into French.",
        "How many wheels has a bicycle, a tractor and a train?",
    ),
    (
        "Write a short summary of the news article.",
        "Write a brief summary of the news article.",
        "Compute 12 + 31, step by step: what is left over?",
    ),
    (
        "Decide whether the review of a film is positive or negative.",
        "Decide whether the review of a movie is negative or positive.",
        "Bread, butter, cheese; 4 eggs!",
    ),
    (
        "Answer the question about the law of contracts.",
        "Answer the questions about contract law.",
        "Its moon has craters, and no air",
    ),
)
#: Mean cosine distance of unrelated sentences below which an embedder is useless.
_LEAST_FAR = 0.003


@dataclass(frozen=True)
class Words:
    """Texts as token ids for a model: `tokenize(text, limit)` gives at most `limit`; `window` is
    the longest description, in tokens."""

    name: str
    tokenize: Callable[[str, int], list[int]]
    window: int

    def count_left_out(self, text: str) -> int:
        """Count the tokens of a description behind the window, which are not read."""
        return max(0, len(self.tokenize(format_description(text), _UNBOUNDED)) - self.window)


@dataclass(frozen=True)
class Embedder(Words):
    """Embeds descriptions: `embed(text)` is the vector that networks read, `read(ids)` that of one
    token."""

    read: Callable[[list[int]], Tensor]

    def embed(self, text: str) -> Tensor:
        """Embed a text: (hidden,) float32 on the CPU, of length √hidden; it needs no full stop.

        Source of the format and the length: SakanaAI/text-to-lora, utils/utils.py (embed_texts).
        """
        with torch.inference_mode():
            ids = self.tokenize(format_description(text), self.window)
            vector = self.read(ids).float().cpu()
        length = torch.linalg.vector_norm(vector)
        if not bool(torch.isfinite(length)) or length == 0:
            raise BaseModelError(
                f"{self.name}: the embedding of a description is not finite",
                hint="the embedder's weights are damaged",
            )
        scaled: Tensor = vector / length * math.sqrt(len(vector))
        return scaled


def format_description(text: str) -> str:
    """Strip, and add a full stop if the last character is a letter."""
    text = text.strip()
    return text + "." if text and text[-1].isalpha() else text


def load_embedder(
    base: BaseFiles | None,
    encoder: BaseFiles | None,
    *,
    as_questions: bool,
    device: str,
    dtype: torch.dtype | None = None,
) -> Embedder:
    """Load a network's embedder: the encoder, if there is one, else the base; raises
    BaseModelError. `dtype` is the base's precision; None: that of the device."""
    if encoder is not None:
        return load_encoder(encoder, device=device)
    assert base is not None  # one of the two is given
    return load_base_embedder(base, as_questions=as_questions, device=device, dtype=dtype)


def load_base_embedder(
    base: BaseFiles, *, as_questions: bool, device: str, dtype: torch.dtype | None = None
) -> Embedder:
    """Load the base as an embedder by the last token's hidden state after the final norm.

    `as_questions`: the text is a user's question in its chat, whose last token predicts the answer;
    else the text stands alone. Raises BaseModelError.
    """
    model: Any = load_frozen(base, device=device, dtype=dtype or pick_dtype(device, measured=False))

    def read(ids: list[int]) -> Tensor:
        states = model(torch.tensor([ids], device=device), use_cache=False).last_hidden_state
        last: Tensor = states[0, -1]
        return last

    return Embedder(**vars(read_base_words(base, as_questions=as_questions)), read=read)


def read_base_words(base: BaseFiles, *, as_questions: bool) -> Words:
    """Read a base's tokenizer, for bare texts or for a user's questions in its chat."""
    tokenizer = load_tokenizer(base.folder)

    def tokenize(text: str, limit: int) -> list[int]:
        with quiet_transformers():
            return list(tokenizer.chat(text, truncation=True, max_length=limit)["input_ids"])

    chat = make_chat(tokenizer) if as_questions else None  # some bases have no chat template

    def ask(text: str, limit: int) -> list[int]:
        assert chat is not None
        ids, behind = list(chat.ask(text)), chat.ask_ends()[1]
        # A long text loses its end, but not the template behind it.
        return ids if len(ids) <= limit else [*ids[: limit - len(behind)], *behind]

    return Words(base.name, ask if as_questions else tokenize, MAX_TOKENS)


def load_encoder(files: BaseFiles, *, device: str) -> Embedder:
    """Load a sentence encoder as an embedder: its first token's hidden state, in float32.

    Raises BaseModelError, also if paraphrases are not nearer than unrelated sentences.
    """
    folder, words = files.folder, read_encoder_words(files)
    with _naming(folder):
        config = read_encoder_config(read_json(folder / "config.json"))
        hint = "d2l reads model.safetensors, not pickled weights"
        tensors = read_tensors(folder / "model.safetensors", BaseModelError, hint=hint)
        encoder = build_encoder(config, tensors, device=device)

    def read(ids: list[int]) -> Tensor:
        if max(ids, default=-1) >= config.vocab_size or not ids:
            raise BaseModelError(f"{folder}: the tokenizer does not fit the weights")
        first: Tensor = encoder(torch.tensor(ids, device=device))[0]
        return first

    embedder = Embedder(**vars(words), read=read)
    check_meaning(embedder)
    return embedder


def read_encoder_words(files: BaseFiles) -> Words:
    """Read a sentence encoder's tokenizer and window; raises BaseModelError."""
    with _naming(files.folder):
        config = read_encoder_config(read_json(files.folder / "config.json"))
    tokenizer = load_tokenizer(files.folder)

    def tokenize(text: str, limit: int) -> list[int]:
        return tokenizer.encode_whole(text, limit=limit)

    return Words(files.name, tokenize, min(MAX_TOKENS, config.max_position_embeddings))


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Name the encoder's folder in errors, as BaseModelError."""
    try:
        yield
    except (BaseModelError, CheckpointError) as error:
        named = error.message.startswith(str(folder))
        message = error.message if named else f"{folder}: {error.message}"
        raise BaseModelError(message, hint=error.hint) from error


def check_meaning(embedder: Embedder) -> None:
    """Refuse an embedder that puts paraphrases as far away as unrelated sentences."""
    near, far = measure_distances(embedder)
    if not (near < far and far > _LEAST_FAR):
        raise BaseModelError(
            f"{embedder.name}: embeds paraphrases as far apart as unrelated sentences",
            hint="its weights are damaged or of another architecture: adapters would be arbitrary",
        )


def measure_distances(embedder: Embedder) -> tuple[float, float]:
    """Measure the mean cosine distance between paraphrases, and between unrelated sentences."""
    near, far = 0.0, 0.0
    for texts in _TRIPLES:
        sentence, paraphrase, unrelated = map(embedder.embed, texts)
        near += 1 - float(cosine_similarity(sentence, paraphrase, dim=0))
        far += 1 - float(cosine_similarity(sentence, unrelated, dim=0))
    return near / len(_TRIPLES), far / len(_TRIPLES)
