"""Solved examples as turns of the base's chat, and the choice of a few.

A base learns a task from turns, so their own keys and values become the memory, one seat a token;
the network was not trained on turns, and does not change them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.tasks import Example, list_labels
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.errors import TaskError
from d2l.hypernets.seats.seated_config import SeatedConfig

#: Most examples to read, but at least one of each label. In the prompt eight examples
#: helped a base hardly more than three; as a memory they helped less: the more seats, the worse
#: each is imposed (examples/training/LOG.md).
MOST = 3
#: Longest beginning of a file to choose from.
_CONSIDERED = 2000


class Turns(Chunk):
    """A description with solved examples, as turns of a chat."""


def cut_turns(
    config: SeatedConfig,
    tokenizer: BaseTokenizer,
    description: Document,
    examples: Sequence[Example],
) -> tuple[Turns, tuple[int, ...]]:
    """Cut the chunk of a description with examples, and list their indices; raises TaskError if no
    example fits."""
    text = description.text
    chosen = choose_examples(config, tokenizer, text, examples)
    if not chosen:
        most = max(config.max_seats - len(tokenizer.encode(f"{text}\n\n")), 0) // 3
        raise TaskError(
            f"all {len(examples):,} examples are too long: at most {most} tokens each here",
            hint="shorten them, or the description",
        )
    ids = write_turns(config, tokenizer, text, [examples[index] for index in chosen])
    n_seats = max(len(ids), config.min_seats)
    whole = (*config.read_opening, *ids)
    return Turns(0, whole, "", description.name, n_seats, (0, len(text))), tuple(chosen)


def write_turns(
    config: SeatedConfig, tokenizer: BaseTokenizer, description: str, examples: Sequence[Example]
) -> list[int]:
    """Write token ids from the description, which begins the first user's turn, to the last answer;
    the rest of a prompt ends that turn."""
    before, between = _find_around(config, tokenizer)
    ids = list(tokenizer.encode(f"{description}\n\n{examples[0].input}"))
    for example, following in pairwise([*examples, None]):
        assert example is not None
        ids += [*before, *tokenizer.encode(example.outputs[0])]
        if following is not None:
            ids += [*between, *tokenizer.encode(following.input)]
    return ids if _ends_turn(config) else [*ids, *between]


def _ends_turn(config: SeatedConfig) -> bool:
    """True if the text behind the opening ends a turn and begins the user's, which is so in
    templates with a turn of the system."""
    turns = config.texts
    return turns is None or turns.behind_system == turns.after_answer


def _find_around(
    config: SeatedConfig, tokenizer: BaseTokenizer
) -> tuple[Sequence[int], Sequence[int]]:
    """Find the token ids between a question and its answer, and from there to the next question."""
    if config.texts is None:
        return config.before_answer, config.after_opening
    turns, encode = config.texts, tokenizer.encode_control
    return encode(turns.question_end + turns.past_start), encode(turns.after_answer)


def choose_examples(
    config: SeatedConfig, tokenizer: BaseTokenizer, description: str, examples: Sequence[Example]
) -> list[int]:
    """Choose examples, by index in the order of reading; none if no example fits beside the
    description.

    Candidates are the shorter half of each label, or of all, since every token costs a seat. The
    first candidate is chosen; then, of the labels with the fewest chosen, the example whose words
    are least similar to those of the chosen. An example takes at most a third of the seats.
    """
    around = sum(map(len, _find_around(config, tokenizer)))
    n_left = config.max_seats - len(tokenizer.encode(f"{description}\n\n"))
    sizes, words = {}, {}
    for index, example in enumerate(examples[:_CONSIDERED]):
        text = f"{example.input}\n{example.outputs[0]}"
        sizes[index] = len(tokenizer.encode(text)) + around
        words[index] = set(text.lower().split())
    labels = list_labels(examples)
    fit = {index: size for index, size in sizes.items() if size <= max(n_left, 0) / 3}
    kinds = {index: examples[index].outputs[0] if labels else "" for index in fit}
    left = _take_short(fit, kinds)
    chosen = list[int]()
    while left and len(chosen) < max(MOST, len(labels)):
        counts = Counter(kinds[index] for index in chosen if labels)
        index = min(
            left,
            key=lambda index: (
                counts[kinds[index]],
                max((_alike(words[index], words[other]) for other in chosen), default=0.0),
                index,
            ),
        )
        chosen.append(index)
        n_left -= sizes[index]
        left = [other for other in left if other != index and sizes[other] <= n_left]
    return chosen


def _take_short(sizes: Mapping[int, int], kinds: Mapping[int, str]) -> list[int]:
    """List the indices of the shorter half of every kind; all of a few."""
    taken = list[int]()
    for kind in set(kinds.values()):
        by_size = sorted((index for index in sizes if kinds[index] == kind), key=sizes.__getitem__)
        taken += by_size[: max(MOST, len(by_size) // 2)]
    return sorted(taken)


def _alike(one: set[str], other: set[str]) -> float:
    """Shared words of all (Jaccard's index)."""
    return len(one & other) / max(len(one | other), 1)
