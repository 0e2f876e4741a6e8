"""Creation of a seat network for a base: sizes, opening words, second moments.

A base's name in, a folder out that `d2l train` takes with `fresh = true`. Sizes follow from the
base's config, token ids from its chat template; `opening_words` chooses words behind memories of an
untrained network, which are the pooled keys and values of the texts.
"""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from d2l.bases.catalog import BY_ALIAS
from d2l.bases.devices import pick_device
from d2l.bases.models import BaseFiles, find_base, load_frozen
from d2l.bases.tokenizers import BaseTokenizer, load_tokenizer
from d2l.errors import BaseModelError, CheckpointError
from d2l.files.atomic import building
from d2l.hypernets.checkpoints import refuse_checkpoint
from d2l.hypernets.seats.calibration import (
    combine_memories,
    cut_plain_text,
    measure_moments,
    write_memories,
)
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import SeatNetwork, Seats
from d2l.hypernets.seats.second_moments import (
    FILE_NAME,
    Statistics,
    pack_moments,
    write_statistics,
)
from d2l.training.learners.seats.opening_words import (
    choose_words,
    list_candidates,
    rank_words,
    read_known_words,
)

_FEATURES = 5  # hidden states that the network reads, evenly over the layers
_FIRST_LAYER = 3  # below it the opening's states still look like those of the bare tokens
_HEAD_SIZE = 64  # of the network's own attention
_MARK = "\u2042question\u2042"
Watch = Callable[[int, int, str], object]
_SEED = 0  # every network begins with the same random numbers


@dataclass(frozen=True)
class CreateOptions:
    """Options: the base, the most seats, and the width of the network (a multiple of 64).

    `system`: text of the opening if the base's template has none of its own.
    """

    base: str
    n_seats: int
    width: int = 320
    system: str | None = None
    device: str = "auto"
    offline: bool = False


def create(
    options: CreateOptions, target: Path, *, watch: Watch, force: bool = False
) -> SeatsConfig:
    """Write config.json and statistics.safetensors at `target`; raises D2LError."""
    refuse = partial(refuse_checkpoint, target, force=force)
    refuse()
    known = BY_ALIAS.get(options.base)
    name = options.base if known is None else known.name
    base = find_base(name, override=options.base, offline=options.offline)
    tokenizer = load_tokenizer(base.folder)
    pieces = [tokenizer.decode([number]) for number in range(int(base.config.vocab_size))]
    candidates = list_candidates(pieces, known=read_known_words())
    bare = describe_base(base, tokenizer, options)
    n_new = options.n_seats - bare.min_seats
    if not 0 < n_new < min(bare.hidden, len(candidates)):
        raise CheckpointError(
            f"{options.n_seats} seats: a base {bare.hidden} wide, whose shortest opening has "
            f"{bare.min_seats}, takes {bare.min_seats + 1} to {bare.hidden - 1}"
        )
    chance = random.Random(_SEED)
    drafted = add_words(bare, chance.sample(candidates, n_new), pieces)
    device = pick_device(options.device)
    model = load_frozen(base, device=device, dtype=torch.float32)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(_SEED)
        network = SeatNetwork(bare).eval().requires_grad_(False).to(device)
    text = cut_plain_text(tokenizer, limit=bare.chunk_tokens)

    def measure(config: SeatsConfig, label: str) -> Tensor:
        # No moments are needed to measure moments: memories are imposed, and nothing is solved.
        noise = torch.eye(config.hidden).expand(config.n_adapted_layers, -1, -1)
        seats = Seats(config, network, pack(noise, config), model)
        return measure_moments(seats, text, watch=lambda done, all_: watch(done, all_, label))

    seats = Seats(bare, network, pack(measure(drafted, "reading plain text"), bare), model)
    memories = write_memories(seats, text)
    ranked = rank_words(
        seats,
        candidates,
        n_new,
        make_memory=lambda n_seats: combine_memories(memories, n_seats, chance),
        seed=_SEED,
        watch=lambda done, all_: watch(done, all_, "choosing words"),
    )
    words = choose_words(seats, ranked, n_new, pieces=pieces, tokenizer=tokenizer)
    config = add_words(bare, words, pieces)
    moments = measure(config, "reading plain text again")
    with building(target, refuse) as folder:
        values = json.dumps(asdict(config), indent=1) + "\n"
        (folder / "config.json").write_text(values, "utf-8")
        write_statistics(folder / FILE_NAME, moments)
    return config


def describe_base(base: BaseFiles, tokenizer: BaseTokenizer, options: CreateOptions) -> SeatsConfig:
    """Describe a network for a base, its opening without words."""
    config = base.config
    hidden, layers = int(config.hidden_size), int(config.num_hidden_layers)
    heads = int(config.num_attention_heads)
    end, head, after, before = split_template(tokenizer, options.system)
    step = math.ceil(layers / _FEATURES)
    return SeatsConfig(
        network="seats",
        version=1,
        base=base.name,
        base_file=base.gguf.name if base.gguf is not None else "model.safetensors",
        base_digest=base.digest(),
        end_token=end,
        hidden=hidden,
        layers=layers,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(config, "head_dim", None) or hidden // heads),
        first_layer=min(_FIRST_LAYER, layers - 1),
        width=options.width,
        encoder_layers=2,
        encoder_heads=max(options.width // _HEAD_SIZE, 1),
        relative_clip=32,
        features=tuple(range(0, layers, step)),
        group_dim=16,
        seat_table=32,
        tokens_per_seat=2,
        min_seats=len(head) - 1,
        max_seats=len(head) - 1,
        chunk_tokens=240,
        min_chunk_tokens=16,
        statistics_ridge=1e-3,
        solve_epsilon=1e-4,
        read_opening=(*head, *after),
        opening_head=head,
        opening_words=(),
        after_opening=after,
        before_answer=before,
        opening_head_text=tokenizer.decode(head),
        opening_words_text="",
    )


def split_template(
    tokenizer: BaseTokenizer, system: str | None
) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Split the chat template around a question into ids: (the end of a turn, the opening up to it,
    from there to the question, from the question to the answer). Raises BaseModelError."""
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns.append({"role": "user", "content": _MARK})
    before, mark, after = tokenizer.render_chat(turns, taking="a question").partition(_MARK)
    ids, behind = tokenizer.encode_control(before), tuple(tokenizer.encode_control(after))
    end = int(tokenizer.chat.eos_token_id)
    if not mark or end not in ids or ids.index(end) < 2 or not behind:
        raise BaseModelError(
            f"{tokenizer.folder}: the chat template opens without a system text, which the seats "
            "would be",
            hint="name one: --system 'You are a helpful assistant.'",
        )
    head = ids.index(end)
    return end, tuple(ids[:head]), tuple(ids[head:]), behind


def add_words(config: SeatsConfig, words: Sequence[int], pieces: Sequence[str]) -> SeatsConfig:
    """Add words to the opening of a configuration, a seat for each."""
    return replace(
        config,
        max_seats=config.max_seats + len(words),
        opening_words=(*config.opening_words, *words),
        opening_words_text=config.opening_words_text + "".join(pieces[word] for word in words),
    )


def pack(moments: Tensor, config: SeatsConfig) -> Statistics:
    """Pack second moments (layers, d_in, d_in) into the form that seats are solved with."""
    return pack_moments(
        moments, layers=config.memory_layers, ridge=config.statistics_ridge, source=config.base
    )
