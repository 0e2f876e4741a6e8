"""Doc-to-LoRA networks: lengths of chunks, and warnings about them."""

from pathlib import Path
from typing import Any

import pytest

from d2l.compiler.plan import CompilePlan
from d2l.hypernets.options import CompileOptions
from tests import tiny
from tests.compiler.test_compile import make_document, prepare, set_up

TRAINED = 60  # tokens of a chunk of the tiny network, in training
WINDOW = 512  # tokens that the tiny base reads


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    return working_folder


def plan(n_words: int, **options: Any) -> CompilePlan:
    """A plan of a text of so many words of a token each, which the template adds a few to."""
    folder = Path("network-llama")
    checkpoint = str(folder if folder.exists() else set_up("llama"))
    options = {"checkpoint": checkpoint} | options
    return prepare([make_document(" pump" * n_words)], CompileOptions(**options))


def test_chunks_are_as_in_training_or_as_in_the_public_evaluation() -> None:
    affixes = plan(1).network._affixes(plan(1).network.reader)
    n_affixes = sum(map(len, affixes))
    n_template = len(plan(TRAINED // 2).chunks[0].token_ids) - TRAINED // 2
    whole = WINDOW - n_affixes
    for n_words, longest, n_chunks in (
        (TRAINED // 2, TRAINED, 1),
        (8 * TRAINED - 100, TRAINED, 7),
        (8 * TRAINED - n_template, TRAINED, 8),  # the template's tokens count
        (8 * TRAINED - n_template + 1, whole, 1),
        (10 * whole, whole, 11),
    ):
        planned = plan(n_words)
        lengths = [len(chunk.token_ids) for chunk in planned.chunks]
        assert (len(lengths), max(lengths) <= longest + n_affixes) == (n_chunks, True), n_words
        assert planned.rank == planned.config.rank * n_chunks + planned.config.bias_rank
        assert not any("longer than the base's window" in text for text in planned.warnings)
    assert len(plan(8 * TRAINED + 1, chunk_tokens=TRAINED).chunks) > 8  # the user knows better


def test_a_network_that_saw_one_chunk_reads_one_and_warns_beyond_2344_tokens() -> None:
    checkpoint = str(set_up("llama", chunk_tokens=None))
    config = Path(tiny.base_name("llama"), "config.json")
    config.write_text(config.read_text("utf-8").replace(f": {WINDOW},", ": 8192,"), "utf-8")
    options = {"checkpoint": checkpoint}
    for n_words, n_chunks, warned in ((2_000, 1, 0), (2_500, 1, 1), (8_000, 1, 1), (8_200, 2, 1)):
        planned = plan(n_words, **options)
        said = [text for text in planned.warnings if "1 of 2,344: less may come back" in text]
        assert (len(planned.chunks), len(said)) == (n_chunks, warned), n_words
        assert all("no needle in 7,000 tokens" in text for text in said)


@pytest.mark.parametrize(
    ("n_words", "options", "warned"),
    [
        (TRAINED // 2, {}, []),
        (60 * TRAINED, {}, ["was trained on, 8 of 60"]),
        (1200, {"chunk_tokens": 700, "parts": False}, ["8 of 60", "window of 512: choose"]),
        (900, {"chunk_tokens": TRAINED}, []),  # parts are kept, of which a question chooses
        (900, {"chunk_tokens": 1, "parts": False}, ["8 of 60", "512: choose more --chunk-tokens"]),
        (900, {"chunk_tokens": 1, "max_rank": 64}, ["8 of 60"]),
    ],
)
def test_warnings_name_what_helps(n_words: int, options: dict[str, Any], warned: list[str]) -> None:
    said = [text for text in plan(n_words, **options).warnings if "does not look like" not in text]
    assert len(said) == len(warned), said
    assert all(part in text for part, text in zip(warned, said, strict=True)), said


def test_a_tokenizer_of_another_revision_is_told() -> None:
    planned = plan(TRAINED // 2)
    family = planned.network.reader.family
    prefix, suffix = planned.network._affixes(planned.network.reader)
    name = planned.network.reader.name
    object.__setattr__(family, "affixes", {name: ((7, *prefix), suffix)})
    try:
        assert "of another revision" in plan(TRAINED // 2).warnings[-1]
        object.__setattr__(family, "affixes", {name: (prefix, (*suffix, 7))})
        assert not any("revision" in text for text in plan(TRAINED // 2).warnings)
    finally:
        object.__setattr__(family, "affixes", None)
