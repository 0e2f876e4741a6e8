"""Embedders: a task description in, one vector out.

Either the base itself, by its last token, or a sentence encoder, by its first. Never runs code
that comes with a model, reads safetensors only.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from d2l.bases.activations import cache_keyword
from d2l.bases.chat import Chat, make_chat
from d2l.bases.devices import pick_dtype
from d2l.bases.models import BaseFiles, load_frozen
from d2l.bases.quiet import quiet_transformers
from d2l.bases.tokenizers import load_tokenizer
from d2l.errors import BaseModelError
from d2l.files.tensors import read_tensors
from d2l.hypernets.familiarity import scale_embedding
from d2l.hypernets.text_to_lora.sentence_encoder import build_encoder, read_encoder_config

#: Longest description in tokens, as in SakanaAI/text-to-lora, utils/model_loading.py.
MAX_TOKENS = 8192

_UNBOUNDED = 1 << 30
_MAX_CONFIG_BYTES = 1 << 20
#: A sentence, one that means the same, and one about something else.
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
#: Tokens, padding included, that one pass takes where many descriptions are embedded at once.
_PASS_TOKENS = 2048
#: Mean cosine distance below which unrelated sentences are all the same to an embedder.
_LEAST_FAR = 0.003


class Embedder:
    """Embeds descriptions, one at a time: `embed(text)` is the vector that networks read.

    `tokenize(text, limit)` gives at most `limit` ids, `read(ids)` the vector of one token;
    `read_all`, where a model has it, the vectors of several texts that are padded to one length.
    """

    def __init__(
        self,
        name: str,
        tokenize: Callable[[str, int], list[int]],
        read: Callable[[list[int]], Tensor],
        *,
        window: int,
        read_all: Callable[[list[list[int]]], Tensor] | None = None,
    ) -> None:
        self.name = name
        self.window = window  # longest description, in tokens
        self._tokenize = tokenize
        self._read = read
        self._read_all = read_all

    def count_left_out(self, text: str) -> int:
        """How many tokens of a description stand behind the window, and are not read."""
        n_tokens = len(self._tokenize(format_description(text), _UNBOUNDED))
        return max(0, n_tokens - self.window)

    def embed(self, text: str) -> Tensor:
        """(hidden,) float32 on the CPU, of length √hidden; `text` needs no full stop.

        Source of the format and the length: SakanaAI/text-to-lora, utils/utils.py (embed_texts).
        """
        with torch.inference_mode():
            ids = self._tokenize(format_description(text), self.window)
            return scale_embedding(self._read(ids), self.name)

    def embed_all(self, texts: Sequence[str]) -> Tensor:
        """(texts, hidden): the same of many texts, several in one pass of the model, which is some
        times as fast and rounds differently."""
        if self._read_all is None:
            return torch.stack([self.embed(text) for text in texts])
        lines = [self._tokenize(format_description(text), self.window) for text in texts]
        found: dict[int, Tensor] = {}
        with torch.inference_mode():
            for group in _group_by_length(lines):
                vectors = self._read_all([lines[place] for place in group])
                found |= {
                    place: scale_embedding(one, self.name)
                    for place, one in zip(group, vectors, strict=True)
                }
        return torch.stack([found[place] for place in range(len(lines))])


def _group_by_length(lines: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of lines, short ones first, in groups of at most `_PASS_TOKENS` tokens when padded; a
    line of more is a group of its own."""
    groups: list[list[int]] = []
    for place in sorted(range(len(lines)), key=lambda place: len(lines[place])):
        if groups and (len(groups[-1]) + 1) * len(lines[place]) <= _PASS_TOKENS:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def format_description(text: str) -> str:
    """Strip, and end with a full stop where the last character is a letter."""
    text = text.strip()
    return text + "." if text and text[-1].isalpha() else text


def load_embedders(
    base: BaseFiles | None,
    encoder: BaseFiles | None,
    *,
    as_questions: bool,
    device: str,
    dtype: torch.dtype | None = None,
) -> tuple[Embedder, Embedder]:
    """What a network reads descriptions with, and what tells how alike they are; raises
    BaseModelError.

    Both are the encoder, where there is one; else the base, which a network may ask: what is about
    to be answered says more of a task, and less of whether the text names one. `dtype` is the
    precision that the base runs in; None: as the device needs.
    """
    if encoder is not None:
        embedder = load_encoder(encoder, device=device)
        return embedder, embedder
    assert base is not None  # one of the two there is
    bare, asked = load_base_embedders(base, device=device, dtype=dtype)
    return (asked if as_questions else bare), bare


def load_base_embedders(
    base: BaseFiles, *, device: str, dtype: torch.dtype | None = None
) -> tuple[Embedder, Embedder]:
    """The base as an embedder by the last token's hidden state after the final norm: of bare texts
    and, second, of texts as a user's question in its chat.

    The last token of the latter is the one that the answer follows, so its state says what the base
    is about to answer. Raises BaseModelError.
    """
    model: Any = load_frozen(base, device=device, dtype=dtype or pick_dtype(device))
    tokenizer = load_tokenizer(base.folder)

    def tokenize(text: str, limit: int) -> list[int]:
        with quiet_transformers():
            return list(tokenizer.chat(text, truncation=True, max_length=limit)["input_ids"])

    @cache
    def load_chat() -> Chat:  # only when it is asked for: some bases have none
        return make_chat(tokenizer)

    def ask(text: str, limit: int) -> list[int]:
        chat = load_chat()
        ids, behind = list(chat.ask(text)), chat.ask_ends()[1]
        # Of a long text the end is cut off, not what stands behind it.
        return ids if len(ids) <= limit else [*ids[: limit - len(behind)], *behind]

    def read(ids: list[int]) -> Tensor:
        states = model(torch.tensor([ids], device=device), use_cache=False).last_hidden_state
        last: Tensor = states[0, -1]
        return last

    def read_all(lines: list[list[int]]) -> Tensor:
        shared = _count_shared(lines)  # what a chat begins with is read once
        cached = {}
        if shared:
            keyword = cache_keyword(model)
            first = torch.tensor([lines[0][:shared]], device=device)
            cache = getattr(model(first, use_cache=True), keyword)
            cache.batch_repeat_interleave(len(lines))
            cached = {keyword: cache}
        longest = max(map(len, lines))  # padded behind, where no token of a text looks
        padded = [[*line[shared:], *[0] * (longest - len(line))] for line in lines]
        states = model(torch.tensor(padded, device=device), use_cache=bool(cached), **cached)
        places = [len(line) - 1 - shared for line in lines]
        last: Tensor = states.last_hidden_state[range(len(lines)), places]
        return last

    return (
        Embedder(base.name, tokenize, read, window=MAX_TOKENS, read_all=read_all),
        Embedder(base.name, ask, read, window=MAX_TOKENS, read_all=read_all),
    )


def _count_shared(lines: Sequence[Sequence[int]]) -> int:
    """Tokens that several lines begin with, less than any of them has; 0 for a line alone."""
    if len(lines) < 2:
        return 0
    most = min(map(len, lines)) - 1
    first = lines[0]
    return next((n for n in range(most) if any(line[n] != first[n] for line in lines)), most)


def load_encoder(files: BaseFiles, *, device: str) -> Embedder:
    """A sentence encoder as an embedder: its first token's hidden state, in float32.

    Refused where paraphrases are not nearer than unrelated sentences: that is garbage. Raises
    BaseModelError.
    """
    folder = files.folder
    try:
        config = read_encoder_config(_read_config(folder / "config.json"))
        encoder = build_encoder(config, _read_tensors(folder), device=device)
    except BaseModelError as error:
        if error.message.startswith(str(folder)):
            raise
        raise BaseModelError(f"{folder}: {error.message}", hint=error.hint) from error
    tokenizer = load_tokenizer(folder)

    def tokenize(text: str, limit: int) -> list[int]:
        return tokenizer.encode_whole(text, limit=limit)

    def read(ids: list[int]) -> Tensor:
        if max(ids, default=-1) >= config.vocab_size or not ids:
            raise BaseModelError(f"{folder}: the tokenizer does not fit the weights")
        first: Tensor = encoder(torch.tensor(ids, device=device))[0]
        return first

    window = min(MAX_TOKENS, config.max_position_embeddings)
    embedder = Embedder(files.name, tokenize, read, window=window)
    check_meaning(embedder)
    return embedder


def check_meaning(embedder: Embedder) -> None:
    """Refuse an embedder to which a paraphrase is as far as an unrelated sentence."""
    near, far = measure_distances(embedder)
    if not (near < far and far > _LEAST_FAR):
        raise BaseModelError(
            f"{embedder.name}: embeds paraphrases as far apart as unrelated sentences",
            hint="its weights are damaged or of another architecture: adapters would be arbitrary",
        )


def measure_distances(embedder: Embedder) -> tuple[float, float]:
    """Mean cosine distance between paraphrases, and between unrelated sentences."""
    near, far = 0.0, 0.0
    for texts in _TRIPLES:
        sentence, paraphrase, unrelated = map(embedder.embed, texts)
        near += 1 - float(cosine_similarity(sentence, paraphrase, dim=0))
        far += 1 - float(cosine_similarity(sentence, unrelated, dim=0))
    return near / len(_TRIPLES), far / len(_TRIPLES)


def _read_config(path: Path) -> Mapping[str, object]:
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise BaseModelError(f"{path}: is larger than a configuration")
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BaseModelError(f"{path}: cannot be read as JSON") from error
    if not isinstance(values, dict):
        raise BaseModelError(f"{path}: expected a JSON object")
    return values


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    hint = "d2l reads model.safetensors, not pickled weights"
    return read_tensors(folder / "model.safetensors", BaseModelError, hint=hint)
