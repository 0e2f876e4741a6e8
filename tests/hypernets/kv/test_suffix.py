"""The trained end of parts: keys and values in place of those of the text behind a part."""

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.answer.prefix import PrefixMaker
from d2l.api.adapter import Adapter
from d2l.api.compiler import Compiler
from d2l.change.kinds import SeatParent
from d2l.documents.document import Document
from d2l.errors import CheckpointError
from d2l.hypernets.networks import open_network
from d2l.hypernets.options import CompileOptions
from d2l.parts.kept import PartOptions
from d2l.parts.kv import Kv
from tests.compiled import Compiled
from tests.kv import CHUNK_TOKENS, compile_own
from tests.refusals import refuse

pytestmark = pytest.mark.usefixtures("one_thread")
TURNS = [{"role": "user", "content": "How often is the filter rinsed?"}]


@pytest.fixture(scope="module", name="make")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Compiled]:
    """Compile the handbook by a family, each only once."""
    return cache(lambda family: compile_own(tmp_path_factory.mktemp(family), family))


def write_end(folder: Path, plain: Any, **odd: torch.Tensor) -> Path:
    """Copy a network's folder, with an end of the two tokens that end its parts."""
    shutil.copytree(plain.files.path, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    n_suffix = len(plain.tokenizer.encode("the end"))
    (folder / "config.json").write_text(json.dumps(config | {"part_end": "the end"}), "utf-8")
    shape = (plain.config.layers, n_suffix, plain.config.kv_heads * plain.config.head_dim)
    end = {"keys": torch.full(shape, 0.5), "values": torch.full(shape, -2.0)}
    save_file(end | odd, folder / "model.safetensors")
    return folder


def test_a_trained_end_takes_the_place_of_the_text_that_ends_a_part(
    tmp_path: Path, make: Callable[[str], Compiled]
) -> None:
    done = make("qwen2")
    plain = done.plan.network
    network = open_network(str(write_end(tmp_path / "ended", plain)), base=str(done.base))
    assert network.digest() != plain.digest()
    (chunk, *_) = network.cut(done.plan.documents, CompileOptions(chunk_tokens=CHUNK_TOKENS)).chunks
    loaded, unended = (one.load(device="cpu", dtype=torch.float32) for one in (network, plain))
    n_suffix = loaded.suffix.n_seats
    ranks = [chunk.part_rank, 7]
    both = (one.write(chunk, *one.read([chunk]), ranks) for one in (loaded, unended))
    (got, cut), (before, _) = both
    for name in ("keys", "values"):
        mine, theirs = getattr(got, name), getattr(before, name)
        ended = torch.cat([theirs[:, :-n_suffix], getattr(loaded.suffix, name)], dim=1)
        assert torch.equal(mine, ended)
        assert torch.equal(getattr(cut, name), theirs[:, :7])  # the beginning alone, without an end
    of_tasks = network.for_tasks().load(device="cpu", dtype=torch.float32)
    assert not hasattr(of_tasks, "suffix")


def compile_ended(done: Compiled, place: Path, documents: Sequence[Document]) -> Adapter:
    """Compile documents with a network that has a trained end."""
    folder = write_end(place / "ended", done.plan.network)
    options = CompileOptions(
        str(folder), str(done.base), "cpu", chunk_tokens=CHUNK_TOKENS, offline=True
    )
    return Compiler(options)(documents)


@pytest.mark.usefixtures("cache")
def test_a_full_answer_is_read_off_parts_without_their_ends(
    tmp_path: Path, make: Callable[[str], Compiled]
) -> None:
    done = make("qwen2")
    compile_ended(done, tmp_path, done.plan.documents).save_pretrained(tmp_path / "ended.lora")
    asking = AskOptions(str(done.base), "cpu", offline=True)
    asker = AdaptedModel.load(tmp_path / "ended.lora", asking)
    assert isinstance(asker.kept, Kv)
    index = asker.kept.parts.index
    assert index.n_suffix == len(asker.encode("the end"))
    memory = asker.kept.parts.read(2)
    context = asker.read(TURNS, AskOptions(parts=PartOptions(page="#2"))).context
    assert context is not None
    judged, few = context.few
    ended, lead = memory.first(-index.n_suffix), list(index.opening.ids)
    for one, kept in ((judged, memory), (few, ended), (context, ended)):
        made = PrefixMaker(asker.model, lead, n_lead=len(lead), first_layer=0).make_cache([kept])
        n_seats = made.get_seq_length()
        assert n_seats == len(lead) + kept.n_seats
        keys = one.cache.past.layers[1].keys[:, :, :n_seats]
        torch.testing.assert_close(
            keys, made.layers[1].keys, atol=0 if one is context else 1e-5, rtol=0
        )
    end = asker.encode("\n\n")
    assert few.cache.n_tokens == context.cache.n_tokens == len(lead) + ended.n_seats
    assert few.ids[: len(end)] == list(context.ids[: len(end)]) == end
    assert len(judged.ids) == 1  # the rest of its question was read


@pytest.mark.usefixtures("cache")
def test_the_memory_in_weights_has_no_end(tmp_path: Path, make: Callable[[str], Compiled]) -> None:
    done = make("qwen2")
    made = compile_ended(done, tmp_path, done.plan.documents[:1])
    parts, memory = made.parts, made.memory
    assert parts is not None
    assert memory is not None
    first = parts.read(0).first(-parts.index.n_suffix)
    assert made.provenance is not None
    assert made.provenance.chunks[0].ranks == (0, first.n_seats)
    owner = SeatParent(made)
    shown = [n for n, record in enumerate(parts.records) if not record.is_overview]
    joined = owner.join_parts(shown).content.memory
    assert joined is not None
    assert joined.n_seats == memory.n_seats
    for whole in (memory, joined):  # a seat of the end is -2 throughout
        assert not (whole.values == -2.0).all(dim=2).any()


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["keys", "values"])
def test_a_suffix_must_fit_the(name: str, tmp_path: Path, make: Callable[[str], Compiled]) -> None:
    done = make("qwen2")
    folder = write_end(tmp_path / "ended", done.plan.network, **{name: torch.ones(3, 2, 8)})
    network = open_network(str(folder), base=str(done.base))
    told, _ = refuse(CheckpointError, network.load, device="cpu", dtype=torch.float32)
    assert name in told
