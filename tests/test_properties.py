"""What holds for all inputs, tried on those that hypothesis draws; the same ones in every run.

Readers of strangers' bytes give a value or raise D2LError, and nothing else.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from d2l.adapters.info import read_info
from d2l.adapters.merge_methods import average, concat, scaled
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases.models import BaseFiles, find_base
from d2l.bases.tokenizers import BaseTokenizer
from d2l.change.selectors import select
from d2l.datasets.descriptions import read_table
from d2l.datasets.questions import read_documents, read_questions
from d2l.datasets.tasks import read_tasks
from d2l.documents.chunks import pack_sentences, split_evenly
from d2l.errors import D2LError
from d2l.files.tensors import read_header
from d2l.hypernets.checkpoints import read_config
from d2l.hypernets.formats import native
from d2l.hypernets.formats.pickles import read_object
from d2l.training.recipe_files import read_recipe
from tests import tiny, tiny_tasks
from tests.recipes import write_recipe

draw_some = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    # Folders and tokenizers are written over or only read, so one will do for all examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TEXTS = st.lists(st.sampled_from(["The pump. ", "Is it? ", "é日本", "\n", " ", "\U0001f600", "a1"]))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BaseTokenizer:
    """The tiny bases' own."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_text(tiny.tokenizer_json(), "utf-8")
    return BaseTokenizer(folder)


# ---- chunks -------------------------------------------------------------------------------------


@draw_some
@given(st.integers(0, 200), st.integers(1, 50))
def test_slices_cover_the_tokens_without_gap_or_overlap(count: int, limit: int) -> None:
    ids = list(range(count))
    slices = split_evenly(ids, limit=limit, prefix=(-1,), suffix=(-2,))
    assert [one for chunk, _, _ in slices for one in chunk if one >= 0] == ids
    assert [stop for _, _, stop in slices][:-1] == [start for _, start, _ in slices][1:]
    assert all(stop - start <= limit for _, start, stop in slices)


@draw_some
@given(TEXTS.map("".join) | WORDS, st.integers(4, 30), st.integers(0, 10))
def test_pieces_cover_the_text_without_gap_or_overlap(
    tokenizer: BaseTokenizer, text: str, limit: int, minimum: int
) -> None:
    pieces = pack_sentences(text, tokenizer=tokenizer, limit=limit, minimum=minimum)
    end = 0
    for piece in pieces:
        assert not text[end : piece.start].strip(), "a gap"
        assert end <= piece.start <= piece.stop
        end = piece.stop
    assert not text[end:].strip()
    assert all(len(piece.token_ids) <= limit for piece in pieces[:-1])


# ---- tokenizers ---------------------------------------------------------------------------------


@draw_some
@given(TEXTS.map("".join) | WORDS)
def test_the_fast_tokenizer_is_the_slow_one(tokenizer: BaseTokenizer, text: str) -> None:
    assert tokenizer.encode(text) == tokenizer.encode_slow(text)


@pytest.fixture(scope="module")
def built_in(smollm2_files: BaseFiles) -> BaseTokenizer:
    """That of the small network's base."""
    return BaseTokenizer(smollm2_files.folder)


@draw_some
@given(TEXTS.map("".join) | WORDS)
def test_the_built_in_bases_fast_tokenizer_is_its_slow_one(
    built_in: BaseTokenizer, text: str
) -> None:
    assert built_in.encode(text) == built_in.encode_slow(text)


# ---- selectors ----------------------------------------------------------------------------------

NAMES = st.sampled_from(["a.pdf", "docs/b.pdf", "notes: c.md", "p. 3", "#1"])
SOURCES = st.sampled_from(["", "p. 1", "p. 2-4", "§ Filters", "§ a:b"])
CHUNKS = st.lists(
    st.builds(ChunkRecord, index=st.just(0), document=NAMES, source=SOURCES, n_tokens=st.just(1)),
    min_size=1,
)


@draw_some
@given(CHUNKS, st.data())
def test_a_chunk_is_found_by_its_own_name(chunks: list[ChunkRecord], data: Any) -> None:
    index = data.draw(st.integers(0, len(chunks) - 1))
    chunk = chunks[index]
    assert select(f"{chunk.document}:#{index}", chunks).indices == (index,)
    same = tuple(n for n, one in enumerate(chunks) if one.document == chunk.document)
    assert select(chunk.document, chunks).indices == same
    if chunk.source:
        assert index in select(f"{chunk.document}:{chunk.source}", chunks).indices


# ---- merging ------------------------------------------------------------------------------------

SHAPE = (3, 4)


def make_weights(rank: int, values: list[int], scale: float) -> LoraWeights:
    """Small whole numbers, so that sums are exact in any order."""
    numbers = torch.tensor((values * 40)[: rank * sum(SHAPE)], dtype=torch.float64)
    a = numbers[: rank * SHAPE[1]].reshape(rank, SHAPE[1])
    b = numbers[rank * SHAPE[1] :].reshape(SHAPE[0], rank)
    return LoraWeights("base", scale, {"model.layers.0.mlp.down_proj": LoraFactors(a, b)})


def delta(weights: LoraWeights) -> torch.Tensor:
    (factors,) = weights.factors.values()
    return weights.scale * factors.b @ factors.a


PARTS = st.lists(
    st.builds(
        make_weights,
        st.integers(1, 3),
        st.lists(st.integers(-4, 4), min_size=1, max_size=9),
        st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    ),
    min_size=1,
    max_size=4,
)
FACTORS = st.fractions(-2, 2, max_denominator=4).filter(lambda one: one.denominator in (1, 2, 4))


@draw_some
@given(PARTS, st.randoms(use_true_random=False), FACTORS)
def test_merging_is_linear_and_does_not_know_the_order(
    parts: list[LoraWeights], chance: Any, factor: Fraction
) -> None:
    whole = sum(map(delta, parts), torch.zeros(SHAPE, dtype=torch.float64))
    assert torch.equal(delta(concat(parts)), whole)
    torch.testing.assert_close(delta(average(parts)), whole / len(parts))
    mixed = list(parts)
    chance.shuffle(mixed)
    assert torch.equal(delta(concat(mixed)), whole)
    assert torch.equal(delta(concat([scaled(part, float(factor)) for part in parts])), (
        float(factor) * whole
    ))  # fmt: skip


# ---- strangers' bytes ---------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read_or_refuse(read: Callable[[Path], object], path: Path) -> None:
    """A value, or a refusal of one line."""
    refusal = "a value"
    try:
        read(path)
    except D2LError as error:
        refusal = error.message
    assert refusal
    assert "\n" not in refusal


def bend(valid: bytes) -> st.SearchStrategy[bytes]:
    """A valid file with some bytes put in, left out or written over; or any bytes at all."""

    def change(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = valid
        for start, length, new in edits:
            at = start % (len(data) + 1)
            data = data[:at] + new + data[at + length :]
        return data

    edit = st.tuples(st.integers(0, 10**6), st.integers(0, 9), st.binary(max_size=5))
    return st.lists(edit, max_size=3).map(change) | st.binary(max_size=200)


def objects(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects that have some of these keys, with any values."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, JSON))


def spell(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


SAFETENSORS = save({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)})


@draw_some
@given(bend(SAFETENSORS))
def test_a_strangers_safetensors_header(tmp_path: Path, data: bytes) -> None:
    read_or_refuse(read_header, write(tmp_path / "a.safetensors", data))


@draw_some
@given(objects("a", "b", "__metadata__", "c"))
def test_a_strangers_safetensors_header_of_json(tmp_path: Path, header: dict[str, Any]) -> None:
    raw = json.dumps(header).encode()
    data = len(raw).to_bytes(8, "little") + raw
    read_or_refuse(read_header, write(tmp_path / "a.safetensors", data))


def pack_pickle(data: bytes) -> bytes:
    """A checkpoint of torch around a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3")
    return stream.getvalue()


PICKLE = pickle.dumps({"a": [1, 2.5, "x", None], "b": {"c": (True, b"y")}}, protocol=2)


@draw_some
@given(bend(PICKLE).map(pack_pickle) | bend(pack_pickle(PICKLE)))
def test_a_strangers_pickle(tmp_path: Path, data: bytes) -> None:
    read_or_refuse(read_object, write(tmp_path / "pytorch_model.bin", data))


@draw_some
@given(st.data())
def test_a_strangers_recipe(tmp_path: Path, data: Any) -> None:
    valid = write_recipe(tmp_path / "valid.toml").read_bytes()
    read_or_refuse(read_recipe, write(tmp_path / "a.toml", data.draw(bend(valid))))


TASK_KEYS = ("task", "definition", "descriptions", "examples", "positive_examples", "license_clear")


@draw_some
@given(
    st.lists(objects("doc", "question", "answers", *TASK_KEYS), max_size=3).map(spell)
    | bend(b'{"doc": "a", "question": "b", "answers": ["c"]}\n')
)
@pytest.mark.parametrize("read", [read_questions, read_documents, read_tasks, read_table])
def test_strangers_rows(tmp_path: Path, read: Callable[[Path], object], data: bytes) -> None:
    read_or_refuse(read, write(tmp_path / "a.jsonl", data))


ADAPTER = {"base_model_name_or_path": "a", "r": 2, "lora_alpha": 2, "peft_type": "LORA"}
RECORD_KEYS = ("version", "tool", "base", "checkpoint", "inputs", "chunks", "norms", "scale")


@draw_some
@given(
    objects(*ADAPTER).map(lambda changes: ADAPTER | changes),
    objects(*RECORD_KEYS).map(lambda one: json.dumps(one).encode()) | st.binary(max_size=40),
    bend(SAFETENSORS),
)
def test_a_strangers_adapter(
    tmp_path: Path, config: dict[str, Any], record: bytes, weights: bytes
) -> None:
    folder = tmp_path / "a.lora"
    write(folder / "adapter_config.json", json.dumps(config).encode())
    write(folder / "d2l.json", record)
    write(folder / "adapter_model.safetensors", weights)
    read_or_refuse(read_info, folder)


@draw_some
@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"GGUF" + rest))
def test_a_strangers_gguf(tmp_path: Path, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2L_CACHE", str(tmp_path / "cache"))
        path = write(tmp_path / "a.gguf", data)
        read_or_refuse(lambda file: find_base("a/b", override=str(file), offline=True), path)


NETWORK_KEYS = ("format", "version", "kind", "base", "rank", "n_layers", "hidden", "module_order")


@draw_some
@given(st.sampled_from(["seats", "doc_to_lora", "text_to_lora"]), st.data())
def test_a_strangers_network(tmp_path: Path, kind: str, data: Any) -> None:
    folder = tmp_path / kind
    if not folder.is_dir():
        {
            "seats": tiny.write_seats,
            "doc_to_lora": lambda path: tiny.write_doc_to_lora(path, "llama"),
            "text_to_lora": write_text_network,
        }[kind](folder)
        (folder / "config.json").rename(folder / "valid.json")
    valid = (folder / "valid.json").read_bytes()
    bent = bend(valid)
    if valid.lstrip().startswith(b"{"):
        config = json.loads(valid)
        names = [*config, *NETWORK_KEYS]
        bent |= st.dictionaries(st.sampled_from(names), JSON, min_size=1, max_size=2).map(
            lambda changes: json.dumps(config | changes).encode()
        )
    write(folder / "config.json", data.draw(bent))
    read_or_refuse(read_config, folder)


def write_text_network(folder: Path) -> None:
    """A text network's folder, without weights."""
    config = tiny_tasks.make_config()
    header = {"format": native.FORMAT, "version": native.VERSION, "kind": config.kind}
    write(folder / "config.json", json.dumps(header | config.to_json()).encode())


BASE_KEYS = ("model_type", "num_hidden_layers", "hidden_size", "vocab_size", "rope_theta")


@draw_some
@given(st.dictionaries(st.sampled_from(BASE_KEYS), JSON, min_size=1, max_size=2), st.data())
def test_a_strangers_base(bases: Path, tmp_path: Path, changes: dict[str, Any], data: Any) -> None:
    config = json.loads((bases / "llama-tiny" / "config.json").read_text("utf-8")) | changes
    text = data.draw(st.just(json.dumps(config).encode()) | bend(json.dumps(config).encode()))
    write(tmp_path / "base" / "config.json", text)

    def read(folder: Path) -> object:
        files = find_base("a/b", override=str(folder), offline=True)
        return files.config, files.family

    read_or_refuse(read, tmp_path / "base")
