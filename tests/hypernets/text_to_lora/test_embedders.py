"""Embedders: the recorded vectors come out, and garbage is refused."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from d2l.bases.chat import make_chat
from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import load_tokenizer
from d2l.errors import BaseModelError
from d2l.hypernets.text_to_lora.embedders import (
    Embedder,
    format_description,
    load_base_embedder,
    load_encoder,
)
from tests import tiny
from tests.slow import slow_after

GOLDENS = Path(__file__).parents[4] / "shared" / "goldens"
CASES = sorted(path.name for path in (GOLDENS / "t2l").glob("*"))


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory) -> Path:
    return tiny.write_encoder(tmp_path_factory.mktemp("encoders") / "gte-tiny")


def copy_folder(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.mark.skipif(not CASES, reason="the goldens are not beside the repository")
@pytest.mark.parametrize("case", CASES or ["none"])
def test_recorded_embeddings_come_out(case: str) -> None:
    info = json.loads((GOLDENS / "t2l" / case / "info.json").read_text("utf-8"))
    expected = load_file(GOLDENS / "t2l" / case / "expected.safetensors")
    if info["pooling"] == "cls":
        files = BaseFiles("gte", GOLDENS / info["args"]["emb_model"])
        embedder = load_encoder(files, device="cpu")
    else:
        files = BaseFiles("b", GOLDENS / info["base_model"])
        embedder = load_base_embedder(files, as_questions=False, device="cpu")
    for index, text in enumerate(info["tasks"]):
        wanted = expected[f"text{index}.task_emb"][0]
        torch.testing.assert_close(embedder.embed(text), wanted, atol=1e-5, rtol=0)


def test_descriptions_end_with_a_full_stop() -> None:
    assert format_description("  sort the list\n") == "sort the list."
    assert format_description("sort it!") == "sort it!"
    assert format_description("count to 10") == "count to 10"
    assert format_description("être naïvé") == "être naïvé."


def test_encoder_reads_its_first_token(encoder_folder: Path) -> None:
    embedder = load_encoder(BaseFiles("gte-tiny", encoder_folder), device="cpu")
    vector = embedder.embed("open the copper valve")
    model = transformers.BertModel.from_pretrained(encoder_folder).eval()
    ids = [3, *tiny.encode("open the copper valve."), 7]
    with torch.no_grad():
        first = model(torch.tensor([ids])).last_hidden_state[0, 0]
    torch.testing.assert_close(vector, first / first.norm() * 32**0.5, atol=1e-5, rtol=0)
    assert torch.equal(vector, embedder.embed(" open the copper valve. "))


@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_base_reads_its_last_token(tmp_path: Path, family: str) -> None:
    folder = tiny.write_base(tmp_path / family, family)
    files = BaseFiles("base", folder)
    embedder = load_base_embedder(files, as_questions=False, device="cpu")
    ids = torch.tensor([tiny.encode("open the copper valve.")])
    model = tiny.make_causal(family)
    model.set_attn_implementation("eager")  # sdpa has no soft cap, and old transformers picks it
    with torch.no_grad():
        last = model(ids, output_hidden_states=True).hidden_states[-1][0, -1]
    wanted = last / last.norm() * 32**0.5
    torch.testing.assert_close(embedder.embed("open the copper valve"), wanted, atol=1e-4, rtol=0)


def test_base_may_read_it_as_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = BaseFiles("base", tiny.write_base(tmp_path / "llama", "llama"))
    bare, embedder = (
        load_base_embedder(files, as_questions=asked, device="cpu") for asked in (False, True)
    )
    ids = list(make_chat(load_tokenizer(files.folder)).ask("open the copper valve."))
    with torch.no_grad():
        last = tiny.make_causal("llama").model(torch.tensor([ids])).last_hidden_state[0, -1]
    wanted = last / last.norm() * 32**0.5
    torch.testing.assert_close(embedder.embed("open the copper valve"), wanted, atol=1e-4, rtol=0)
    assert not torch.allclose(bare.embed("open the copper valve"), wanted, atol=1e-2)
    # Of a long text the end is cut off, not what stands behind it.
    monkeypatch.setattr("d2l.hypernets.text_to_lora.embedders.MAX_TOKENS", len(ids) + 2)
    short = load_base_embedder(files, as_questions=True, device="cpu")
    assert torch.equal(short.embed("pump " * 99), short.embed("pump " * 98 + "valve"))
    assert not torch.equal(short.embed("pump " * 99), short.embed("valve " + "pump " * 98))
    assert short.count_left_out("open the copper valve") == 0
    assert short.count_left_out("pump " * 99) > 80


def test_the_base_embeds_in_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    files = BaseFiles("base", tiny.write_base(tmp_path / "llama", "llama"))
    exact, rounded = (
        load_base_embedder(files, as_questions=False, device="cpu", dtype=dtype)
        for dtype in (None, torch.bfloat16)
    )
    first, second = exact.embed("open the valve"), rounded.embed("open the valve")
    assert not torch.equal(first, second)
    torch.testing.assert_close(first, second, atol=0.15, rtol=0)  # bf16, two layers


def test_long_text_is_cut_but_ends_as_every_text(encoder_folder: Path) -> None:
    tokenizer = load_tokenizer(encoder_folder)
    whole = tokenizer.encode_whole("pump valve filter", limit=99)
    assert (whole[0], whole[-1]) == (3, 7)
    assert tokenizer.encode_whole("pump valve filter", limit=3) == [*whole[:2], 7]
    embedder = load_encoder(BaseFiles("gte-tiny", encoder_folder), device="cpu")
    assert bool(torch.isfinite(embedder.embed("pump valve " * 500)).all())
    assert embedder.count_left_out("pump") == 0
    n_tokens = len(tiny.encode("pump" + " pump" * 499 + ".")) + 2
    assert embedder.count_left_out(" pump" * 500) == n_tokens - 128


def test_garbage_is_refused(tmp_path: Path, encoder_folder: Path) -> None:
    folder = copy_folder(encoder_folder, tmp_path / "same")
    tensors = load_file(folder / "model.safetensors")
    words = tensors["embeddings.word_embeddings.weight"]
    positions = tensors["embeddings.position_embeddings.weight"]
    same = {
        "embeddings.word_embeddings.weight": words[:1].expand_as(words).contiguous(),
        "embeddings.position_embeddings.weight": torch.zeros_like(positions),
    }
    save_file(tensors | same, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseModelError, match="paraphrases as far apart as unrelated sentences"):
        load_encoder(BaseFiles("same", folder), device="cpu")
    broken = {"embeddings.LayerNorm.bias": torch.full((32,), torch.nan)}
    save_file(tensors | broken, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseModelError, match="the embedding of a description is not finite"):
        load_encoder(BaseFiles("broken", folder), device="cpu")


def test_vectors_have_the_length_that_networks_read() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(BaseModelError, match="the embedding of a description is not finite"):
        Embedder("zero", lambda *_: [1], 9, lambda _: torch.zeros(4)).embed("x")
    random = Embedder("any", lambda *_: [1], 9, lambda _: torch.randn(64, generator=generator))
    vector = random.embed("x")
    assert float(vector.norm()) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "/config.json: is not valid JSON"),
        ("config.json", b"[]", "/config.json: expected a JSON object"),
        ("config.json", b'{"model_type": "t5"}', ": embedders of type 't5' are not supported"),
        ("model.safetensors", b"xx", "/model.safetensors: cannot be read"),
        ("tokenizer.json", b"{", "/tokenizer.json: cannot be read as a tokenizer"),
    ],
)
def test_damaged_folders_are_named(tmp_path, encoder_folder, name, content, message) -> None:
    folder = copy_folder(encoder_folder, tmp_path / "damaged")
    (folder / name).write_bytes(content)
    with pytest.raises(BaseModelError) as raised:
        load_encoder(BaseFiles("damaged", folder), device="cpu")
    assert raised.value.message.startswith(f"{folder}{message}")
