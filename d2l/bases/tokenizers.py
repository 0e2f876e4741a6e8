"""Tokenizers: exact token ids, their positions in the text, and prompts.

Text in, ids out. For byte-level BPE, long texts are encoded by a tiktoken `Encoding` made from the
model's own vocabulary, which gives the same ids faster.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import tiktoken
import tokenizers
import transformers
from jinja2 import TemplateError

from d2l.bases.families import DocumentTemplate
from d2l.bases.load_errors import LOAD_ERRORS, explain, panics_as_errors, quiet_transformers
from d2l.bases.tokenizer_growth import MOST_CHARACTERS, MOST_GROWTH, find_growth
from d2l.errors import BaseModelError
from d2l.memory import refuse_shortage

#: GPT-2's pattern (openai/gpt-2, encoder.py), as tokenizers' ByteLevel uses it by default.
_BYTE_LEVEL = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
#: That pattern after splitting off every digit: a digit stands alone, and white space before a
#: digit ends its piece, so all of it stays together.
_DIGITS_BYTE_LEVEL = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
)
#: Shorter texts take the model's own tokenizer less time than making a faster one.
_FEW_CHARACTERS = 100_000
#: White space in a row, in characters: tiktoken's pattern matcher panics at a million.
_LONGEST_SPACE = 100_000
_LONG_SPACE = re.compile(rf"\s{{{_LONGEST_SPACE}}}")
#: Longest word, in characters: merging its letters takes more than linear time.
_LONGEST_WORD = 100_000
_LONG_WORD = re.compile(rf"(?<!\w)\w{{{_LONGEST_WORD}}}|(?<![^\w\s])[^\w\s]{{{_LONGEST_WORD}}}")
#: UTF-8 of the scripts beyond U+FFFF, without emoji and ideographs. Unicode adds most new letters
#: and digits there, and the libraries follow different versions of it.
_RARE_SCRIPT = re.compile(rb"\xf0[\x90-\x9e]")
#: Llama 3.1 writes the date into every prompt: this is the default of its template, the same on
#: every day. Qwen 3 thinks unless this refuses it.
_SETTINGS = {"date_string": "26 Jul 2024", "enable_thinking": False}


@dataclass(frozen=True)
class Encoded:
    """Token ids, and for each token the characters (start, stop) of the text it came from."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class BaseTokenizer:
    """The tokenizer of a base model's folder. `encode` gives no control tokens: `<|im_end|>` in a
    document is ordinary text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._n_encoded = 0  # characters so far
        self._plain = _build_tokenizer(folder / "tokenizer.json")
        self._plain.encode_special_tokens = True  # "<s>" in a document is text, not a token
        self._growth = find_growth(self._plain)

    @cached_property
    def _json(self) -> dict[str, Any]:
        """The tokenizer as JSON, read on demand: short documents do not need it."""
        return _parse_tokenizer(self.folder / "tokenizer.json")

    @cached_property
    def fast(self) -> "FastEncoding | None":
        """The tiktoken counterpart, or None if the tokenizer is not plain byte-level BPE."""
        try:
            with panics_as_errors():
                return make_encoding(self._json)
        except LOAD_ERRORS:  # values of other types than in known tokenizers
            return None

    @cached_property
    def _special(self) -> tokenizers.Tokenizer:
        """The tokenizer as the model's own prompts use it: control tokens count."""
        return _build_tokenizer(self.folder / "tokenizer.json")

    @cached_property
    def chat(self) -> Any:
        """The transformers tokenizer, for chat templates and decoding."""
        return load_chat_tokenizer(self.folder)

    def encode(self, text: str) -> list[int]:
        """Token ids of ordinary text, without special tokens."""
        if len(pieces := _cut_words(text)) > 1:
            return [token for piece in pieces for token in self.encode(piece)]
        self._n_encoded += len(text)
        if self._n_encoded <= _FEW_CHARACTERS:
            return self.encode_slow(text)
        normal = self._normalize(text)
        if self.fast is not None and self.fast.covers(normal):
            return self.fast.encoding.encode_ordinary(normal)
        return self.encode_slow(text)

    def encode_slow(self, text: str) -> list[int]:
        """Encode with the model's own tokenizer, which `encode` must equal."""
        return list(self._run(self._plain, text).ids)

    def token_starts(self, text: str) -> list[int]:
        """Position in `text` of the first character of each token of `encode_slow(text)`."""
        return [start for start, _ in self._run(self._plain, text).offsets]

    def encode_template(self, template: DocumentTemplate, document: str) -> Encoded:
        """Ids of a document inside its template, as the public code tokenizes the whole string.

        Control tokens count in the template only. Offsets refer to `document`; tokens of the
        template have offsets at its start or end.
        """
        text = template.before + document + template.after
        control = [t["content"] for t in self._json.get("added_tokens", []) if t.get("special")]
        if any(token in document for token in control):
            return self._encode_guarded(template, document, control)
        encoding = self._run(self._special, text)
        start, stop = len(template.before), len(template.before) + len(document)
        offsets = tuple(
            (min(max(a, start), stop) - start, min(max(b, start), stop) - start)
            for a, b in encoding.offsets
        )
        return Encoded(tuple(encoding.ids), offsets)

    def _encode_guarded(
        self, template: DocumentTemplate, document: str, control: Sequence[str]
    ) -> Encoded:
        """Encode the document as ordinary text between the template's outermost control tokens."""
        before, after = template.before, template.after
        head = max((before.rfind(t) + len(t) for t in control if t in before), default=0)
        tail = min((after.find(t) for t in control if t in after), default=len(after))
        opening = self._run(self._special, before[:head]).ids
        inner_text = before[head:] + document + after[:tail]
        inner = self._run(self._plain, inner_text)
        closing = self._run(self._special, after[tail:]).ids
        shift = len(before) - head
        middle = [
            tuple(min(max(x - shift, 0), len(document)) for x in offset) for offset in inner.offsets
        ]
        offsets = [(0, 0)] * len(opening) + middle + [(len(document),) * 2] * len(closing)
        return Encoded((*opening, *inner.ids, *closing), tuple(offsets))  # type: ignore[arg-type]

    def document_template(self, known: DocumentTemplate | None) -> DocumentTemplate:
        """The family's template, else the chat template around a document, empty system turn."""
        if known is not None:
            return known
        mark = "\u2042document\u2042"
        turns = [{"role": "system", "content": ""}, {"role": "user", "content": mark}]
        before, separator, after = self.render_chat(turns, taking="a document").partition(mark)
        if not separator:
            raise BaseModelError(
                f"{self.folder}: the chat template does not repeat the user's text",
                hint="this base cannot be used with a Doc-to-LoRA checkpoint",
            )
        return DocumentTemplate(before, after)

    def render_chat(
        self, turns: Sequence[Mapping[str, str]], *, taking: str, opening: bool = True
    ) -> str:
        """Render turns by the chat template, with the opening of an answer or without.

        Raises BaseModelError if there is no template that takes them; `taking` names their content.
        """
        try:
            return str(
                self.chat.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=opening, **_SETTINGS
                )
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise BaseModelError(
                f"{self.folder}: there is no chat template that takes {taking}", hint=explain(error)
            ) from error

    def affixes(self, template: DocumentTemplate) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids of the template's two halves, to put around inner chunks."""
        prefix = self._run(self._special, template.before).ids
        suffix = self._run(self._special, template.after).ids
        return tuple(prefix), tuple(suffix)

    def encode_control(self, text: str) -> list[int]:
        """Ids of a prompt whose control tokens count, such as a rendered chat template."""
        return list(self._run(self._special, text).ids)

    def encode_whole(self, text: str, *, limit: int) -> list[int]:
        """Ids with the special tokens that the tokenizer adds, such as BERT's [CLS] and [SEP].

        A text of more than `limit` tokens loses its end, but no special tokens.
        """
        encoding = self._run(self._special, text, adding=True)
        ids, added = list(encoding.ids), encoding.special_tokens_mask
        n_behind = next((n for n, special in enumerate(reversed(added)) if not special), 0)
        return ids if len(ids) <= limit else ids[: limit - n_behind] + ids[len(ids) - n_behind :]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        return str(self._plain.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def _run(
        self, tokenizer: tokenizers.Tokenizer, text: str, *, adding: bool = False
    ) -> tokenizers.Encoding:
        """Encode a text, `adding` special tokens or not; raises BaseModelError if the tokenizer
        fails at the text, or might lengthen it too much."""
        if len(text) * self._growth > MOST_CHARACTERS:
            raise _too_much(self.folder / "tokenizer.json")
        try:
            with panics_as_errors():
                read = [tokenizer.encode(t, add_special_tokens=adding) for t in _cut_words(text)]
                return read[0] if len(read) == 1 else tokenizers.Encoding.merge(read)
        except Exception as error:  # tokenizers raises nothing narrower
            raise BaseModelError(
                f"{self.folder}: its tokenizer.json was loaded, but fails at a text",
                hint=f"{explain(error)}; get the base's files again",
            ) from error

    def _normalize(self, text: str) -> str:
        normalizer = self._json.get("normalizer")
        return unicodedata.normalize("NFC", text) if normalizer else text


def _cut_words(text: str) -> list[str]:
    """Cut a text that has a word without an end every `_LONGEST_WORD` characters."""
    if len(text) <= _LONGEST_WORD or not _LONG_WORD.search(text):
        return [text]
    return [text[n : n + _LONGEST_WORD] for n in range(0, len(text), _LONGEST_WORD)]


@dataclass(frozen=True)
class FastEncoding:
    """A tiktoken Encoding that equals a model's tokenizer on all text that it `covers`.

    Some vocabularies lack single bytes (SmolLM2's lacks 21, most of them control characters), which
    the model's own tokenizer drops. Some have added tokens that are ordinary text (Gemma's
    "<table>"), which stand in no merge list. That tokenizer encodes text with either.
    """

    encoding: tiktoken.Encoding
    missing: bytes  # single bytes that the vocabulary lacks
    added: tuple[str, ...] = ()  # tokens that are matched before the text is split

    def covers(self, text: str) -> bool:
        """True if the encoding is known to give the same ids for `text`."""
        data = text.encode("utf-8")
        return not (
            len(data.translate(None, self.missing)) != len(data)
            or _RARE_SCRIPT.search(data)
            or any(token in text for token in self.added)
            or (len(text) > _LONGEST_SPACE and _LONG_SPACE.search(text))
        )


def load_tokenizer(folder: Path) -> BaseTokenizer:
    """Load the tokenizer of a base's folder, once."""
    return _load_once(folder, folder.absolute())


@lru_cache(maxsize=4)
def _load_once(folder: Path, absolute: Path) -> BaseTokenizer:
    """Load a tokenizer; a relative folder is another one in another current folder."""
    del absolute
    return BaseTokenizer(folder)


def load_chat_tokenizer(folder: Path) -> Any:
    """Load the transformers tokenizer of a folder; raises BaseModelError."""
    try:
        with quiet_transformers(), panics_as_errors():
            settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
            name = "PreTrainedTokenizerFast"  # AutoTokenizer gives it, too, but imports torch
            name = name if settings.get("tokenizer_class") == name else "AutoTokenizer"
            kind: Any = getattr(transformers, name)
            return kind.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # tokenizers raises nothing narrower
        refuse_shortage(error)
        raise BaseModelError(
            f"{folder}: the tokenizer cannot be loaded",
            hint="the folder needs tokenizer.json and tokenizer_config.json, undamaged",
        ) from error


def _parse_tokenizer(path: Path) -> dict[str, Any]:
    """Parse a tokenizer.json."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _not_a_tokenizer(path) from error
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise _not_a_tokenizer(path)
    return document


def _build_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """Build the tokenizer of a tokenizer.json, without truncation and padding."""
    try:
        with panics_as_errors():
            tokenizer = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:  # tokenizers raises nothing narrower
        raise _not_a_tokenizer(path) from error
    if not find_growth(tokenizer) <= MOST_GROWTH:
        raise _too_much(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _not_a_tokenizer(path: Path) -> BaseModelError:
    return BaseModelError(
        f"{path}: cannot be read as a tokenizer",
        hint="the base's folder needs a tokenizer.json (a fast tokenizer)",
    )


def _too_much(path: Path) -> BaseModelError:
    return BaseModelError(
        f"{path}: its rules may lengthen a text until it fills the memory",
        hint="no tokenizer of a language model does that: get the base's files again",
    )


def make_encoding(tokenizer: dict[str, Any]) -> FastEncoding | None:
    """Build a tiktoken Encoding from a `tokenizer.json`, or None if it would not be equal.

    tiktoken merges the pair whose result has the lowest id, a tokenizer.json the first pair in its
    merge list. Both are equal if ids grow along that list and the list leads from the bytes of
    every token to that token. Works offline: only the model's own files are read.
    """
    model = tokenizer.get("model", {})
    pattern = _find_pattern(tokenizer)
    unlike = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    if pattern is None or model.get("type") != "BPE" or any(model.get(key) for key in unlike):
        return None
    added = tokenizer.get("added_tokens", [])
    special = {token["content"]: token["id"] for token in added}
    ordinary = {token: index for token, index in model["vocab"].items() if token not in special}
    to_byte = str.maketrans({symbol: chr(byte) for byte, symbol in _byte_symbols().items()})
    if not set("".join(ordinary)).issubset(_byte_symbols().values()):
        return None
    pairs = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
    merged = [ordinary.get("".join(pair), -1) for pair in pairs]
    reached = set(merged)
    # Some vocabularies have fillers ("[PAD151665]"), which no merge makes.
    ordinary = {token: n for token, n in ordinary.items() if len(token) == 1 or n in reached}
    several = [token for token in ordinary if len(token) > 1]
    ranks = {token.translate(to_byte).encode("latin-1"): n for token, n in ordinary.items()}
    if merged != sorted(set(merged)) or len(merged) != len(several) or -1 in merged:
        return None
    merging = tokenizers.models.BPE(vocab=model["vocab"], merges=pairs)
    if any(len(merging.tokenize(token)) != 1 for token in several):
        return None
    missing = bytes(byte for byte in range(256) if bytes([byte]) not in ranks)
    beyond = max(ranks.values(), default=0) + max(special.values(), default=0) + 1
    ranks |= {bytes([byte]): beyond + n for n, byte in enumerate(missing)}  # never produced
    if len(set(ranks.values())) < len(ranks):  # tiktoken panics at two tokens of one id
        return None
    encoding = tiktoken.Encoding(
        "d2l", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special
    )
    ordinary_text = tuple(token["content"] for token in added if not token.get("special"))
    return FastEncoding(encoding, missing, ordinary_text)


def _find_pattern(tokenizer: dict[str, Any]) -> str | None:
    """Find the splitting pattern of a byte-level pre-tokenizer with a known counterpart."""
    normalizer = tokenizer.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        return None
    outer = tokenizer.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    own_regex = steps[-1].get("use_regex", True)
    if len(steps) == 1:
        return _BYTE_LEVEL if own_regex else None
    first = steps[0]
    if len(steps) != 2:
        return None
    if first.get("type") == "Digits" and first.get("individual_digits") and own_regex:
        return _DIGITS_BYTE_LEVEL
    if first.get("type") == "Split" and first.get("behavior") == "Isolated" and not own_regex:
        pattern = first.get("pattern", {}).get("Regex")
        return str(pattern) if pattern and not first.get("invert") else None
    return None


def _byte_symbols() -> dict[int, str]:
    """GPT-2's printable symbol for each byte: the byte itself if printable, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = {byte: chr(byte) for byte in printable}
    hidden = (byte for byte in range(256) if byte not in symbols)
    symbols.update({byte: chr(0x100 + n) for n, byte in enumerate(hidden)})
    return symbols
