"""Networks without weights: a memory is the base's own KV cache, a seat a token.

A base's files in, the folder of a network out: sizes follow from the base's config, texts from its
chat template, opening words from its tokenizer. A part in front of a question is then the page in
the prompt, without reading the page again.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, astuple, replace

from d2l.adapters.parts import PART_END
from d2l.bases.catalog import find_known
from d2l.bases.models import BaseFiles, find_base
from d2l.bases.tokenizers import BaseTokenizer, load_tokenizer
from d2l.bases.turns import read_turns
from d2l.datasets.prompts import read_prompts
from d2l.datasets.silence import INSTRUCTION
from d2l.errors import BaseModelError
from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir, file_digest, find_local, join_digests
from d2l.hypernets.formats.native import CONFIG_FILE
from d2l.hypernets.kv.config import KvConfig
from d2l.hypernets.registry import ALIASES, KV, CheckpointFiles, find_on_disk
from d2l.hypernets.seats.calibration import read_plain_text
from d2l.hypernets.seats.config import read_config

#: Raised when the rules below change, so that folders in the cache are made again.
_RULES = 3
#: Seats of the longest opening: PEFT adapters of rank 256 load in every engine.
MOST_SEATS = 256
#: Tokens of a chunk: a page, or a section of a manual.
CHUNK_TOKENS = 400
#: First layer of a memory: below, the opening's states look like the same words in a text. Higher:
#: fewer layers carry the memory.
_FIRST_LAYER = 3
_ALIKE = 5  # letters that no two words of an opening begin with together
#: A network whose words were chosen by their response to ordinary text: the first candidates.
_RANKED = "qwen2.5-coder-0.5b"


def find_kv(base: str, *, offline: bool = False) -> CheckpointFiles:
    """Find the network of a base's own KV cache, or make it: built in, or a folder in the
    cache. Needs no weights. Raises BaseModelError where the base's family or chat template is not
    supported."""
    known, path = find_known(base), find_local(base)
    # Adapters hold no paths, and a base that was moved is the same.
    name = known.name if known is not None else base if path is None else path.resolve().name
    for alias in ALIASES.values():
        if (alias.network, alias.base) == (KV, name):
            built_in = find_on_disk(alias.name)
            assert built_in is not None
            return CheckpointFiles(KV, built_in)
    files = find_base(name, override=base, offline=offline, need="plan")
    sources = [files.folder / each for each in ("config.json", "tokenizer.json")]
    digests = [file_digest(path) for path in sources if path.is_file()]
    rules = f"{_RULES} {INSTRUCTION}"
    folder = cache_dir() / KV / join_digests([rules, name, *digests])[:16]
    if not (folder / CONFIG_FILE).is_file():
        config = describe_kv(files, load_tokenizer(files.folder))
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(config), indent=1) + "\n"
        replace_file(folder / CONFIG_FILE, lambda target: target.write_text(text, "utf-8"))
    return CheckpointFiles(KV, folder)


def describe_kv(base: BaseFiles, tokenizer: BaseTokenizer) -> KvConfig:
    """Describe the network of a base's own KV cache; raises BaseModelError."""
    turns, config = read_turns(tokenizer), base.config
    _ = base.family  # refused if it is unknown
    hidden, layers = int(config.hidden_size), int(config.num_hidden_layers)
    heads = int(config.num_attention_heads)
    head_text = turns.head.rstrip(" ")  # a word begins with its space
    head = tuple(tokenizer.encode_control(head_text))
    words = choose_words(tokenizer, MOST_SEATS + 1 - len(head))
    text = "".join(words)
    ids = tuple(tokenizer.encode_control(head_text + text))
    if len(head) < 2 or ids[: len(head)] != head or len(ids) != len(head) + len(words):
        raise BaseModelError(
            f"{base.folder}: words behind the head of its chat template are no tokens of their own",
            hint="name another base of the same family with --base",
        )
    bare = KvConfig(
        network=KV,
        version=1,
        base=base.name,
        base_file=base.gguf.name if base.gguf is not None else "model.safetensors",
        end_token=tokenizer.encode_control(turns.answer_end)[0],
        hidden=hidden,
        layers=layers,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(config, "head_dim", None) or hidden // heads),
        first_layer=min(_FIRST_LAYER, layers - 1),
        tokens_per_seat=1.0,
        min_seats=len(head) - 1,
        max_seats=len(ids) - 1,
        chunk_tokens=CHUNK_TOKENS,
        min_chunk_tokens=16,
        statistics_ridge=1e-3,
        solve_epsilon=1e-4,
        read_opening=head,
        opening_head=head,
        opening_words=ids[len(head) :],
        after_opening=head,
        before_answer=tuple(tokenizer.encode_control(turns.before_answer)),
        opening_head_text=head_text,
        opening_words_text=text,
        reads="both",
        turns=astuple(turns),
        part_end=PART_END,
    )
    return instruct(bare, tokenizer, INSTRUCTION)


def instruct(config: KvConfig, tokenizer: BaseTokenizer, instruction: str) -> KvConfig:
    """Put an instruction into the prompts: before a chunk that is read, and behind the opening."""
    turns = config.texts
    behind = (f"\n{instruction}" if instruction else "") + turns.behind_system
    return replace(
        config,
        instruction=instruction,
        read_opening=tuple(tokenizer.encode_control(turns.lead(instruction))),
        after_opening=tuple(tokenizer.encode_control(behind)),
    )


def choose_words(tokenizer: BaseTokenizer, n_words: int) -> list[str]:
    """Choose words that are a token each behind one another, and begin differently; fewer if the
    vocabulary has no more. Each begins with a space."""
    words, ids, begun = list[str](), list[int](), set[str]()
    for word in _list_candidates():
        if len(words) == n_words:
            break
        own = tokenizer.encode(f" {word}")
        if len(own) != 1 or word.lower()[:_ALIKE] in begun:
            continue
        if tokenizer.encode("".join(words) + f" {word}") == [*ids, *own]:
            words.append(f" {word}")
            ids += own
            begun.add(word.lower()[:_ALIKE])
    return words


def _list_candidates() -> Iterator[str]:
    """Yield words: those of a shipped network, then those of the package's texts, long ones first,
    which are rare in other texts."""
    path = find_on_disk(_RANKED)
    assert path is not None  # built in
    yield from read_config(path / CONFIG_FILE).opening_words_text.split()
    texts = " ".join([*read_plain_text(), *read_prompts()]).lower()
    yield from sorted(
        {word for word in texts.split() if word.isalpha()}, key=lambda w: (-len(w), w)
    )
