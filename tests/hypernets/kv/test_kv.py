"""A base as a network without weights: its configuration, its memories, its second moments."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from d2l.answer.events import Start
from d2l.answer.options import AskOptions
from d2l.answer.prefix import PrefixMaker
from d2l.answer.torch_engine import TorchCache
from d2l.bases.tokenizers import BaseTokenizer
from d2l.bases.turns import TurnTexts
from d2l.datasets.silence import INSTRUCTION
from d2l.datasets.tasks import Example
from d2l.errors import BaseModelError, CheckpointError
from d2l.hypernets.kv import describing
from d2l.hypernets.kv.config import KvConfig, read_config, read_seated
from d2l.hypernets.kv.describing import find_kv
from d2l.hypernets.networks import find_checkpoint, open_network
from d2l.hypernets.options import CompileOptions, TaskCompileOptions
from d2l.hypernets.registry import DEFAULT
from d2l.hypernets.seats.network import join_memories
from d2l.hypernets.seats.turns import write_turns
from d2l.parts.kept import Context, PartOptions
from tests import tiny
from tests.asking import read_logits
from tests.compiled import PEFT_DEPRECATION, Compiled
from tests.files.hub_server import REPO, serve_hub
from tests.kv import change_settings, compile_own, load, measure_little, write_base
from tests.refusals import refuse
from tests.slow import slow_after

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTION = "How often is the filter rinsed?"
TURNS = [{"role": "user", "content": QUESTION}]
OTHER = "Be brief, and be kind."


@pytest.fixture(scope="module", name="make")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Compiled]:
    """Compile the handbook by a family, each only once."""
    return cache(lambda family: compile_own(tmp_path_factory.mktemp(family), family))


# ---- the network of a base ----------------------------------------------------------------------


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_the_network_follows_from_the_base(family: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", family)
    files = find_kv(str(base))
    config = read_config(files.path / "config.json")
    tokenizer = BaseTokenizer(base)
    assert (config.base, config.layers, config.hidden, config.kv_heads) == ("base", 3, 32, 2)
    assert config.min_seats < config.max_seats < describing.MOST_SEATS
    ids = tokenizer.encode_control(config.opening_head_text + config.opening_words_text)
    assert tuple(ids) == config.opening(config.max_seats)
    words = config.opening_words_text.split()
    assert len({word[:5] for word in words}) == len(words) == len(config.opening_words)
    asked = [*config.read_opening, *tokenizer.encode("Who?"), *config.before_answer]
    told = tokenizer.decode(asked)
    chat = [{"role": "user", "content": "Who?"}]
    assert told.endswith(tokenizer.render_chat(chat, taking="a question").rpartition("Who?")[1:])  # type: ignore[arg-type]
    assert INSTRUCTION in told
    assert find_kv(str(base)) == files
    bytes_before = (files.path / "config.json").read_bytes()
    (files.path / "config.json").unlink()
    assert find_kv(str(base)) == files
    assert (files.path / "config.json").read_bytes() == bytes_before


@pytest.mark.usefixtures("cache")
def test_openings_have_so_many_seats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_base(tmp_path / "base", "qwen2")
    monkeypatch.setattr(describing, "MOST_SEATS", 10)
    assert read_config(find_kv(str(base)).path / "config.json").max_seats == 10


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(("layers", "first"), [(28, 3), (4, 3), (3, 2), (1, 0)])
def test_seats_begin_at_the_fourth_layer_or_the_last(
    layers: int, first: int, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", "qwen2")
    path = base / "config.json"
    config = json.loads(path.read_text("utf-8")) | {"num_hidden_layers": layers}
    config.pop("layer_types", None)
    path.write_text(json.dumps(config), "utf-8")
    described = read_config(find_kv(str(base)).path / "config.json")
    assert (described.layers, described.first_layer) == (layers, first)


@pytest.mark.usefixtures("cache")
def test_a_base_that_was_moved_or_is_a_link_is_the_same_network(tmp_path: Path) -> None:
    base = write_base(tmp_path / "one" / "base", "qwen2")
    before = find_kv(str(base))
    assert str(tmp_path) not in (before.path / "config.json").read_text("utf-8")
    (tmp_path / "link").symlink_to(base)
    assert find_kv(str(tmp_path / "link")) == before
    (tmp_path / "two").mkdir()
    base.rename(tmp_path / "two" / "base")
    assert find_kv(str(tmp_path / "two" / "base")) == before


def without_template(base: Path) -> None:
    change_settings(base, chat_template=None)


def of_unknown_family(base: Path) -> None:
    config = json.loads((base / "config.json").read_text("utf-8"))
    (base / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}), "utf-8")


BAD = pytest.mark.parametrize(
    ("spoil", "message"), [(without_template, "has no chat template"), (of_unknown_family, "gpt2")]
)


@BAD
@pytest.mark.usefixtures("cache")
def test_a_base_that_cannot_be_asked_or_read_is_refused_without_its_weights(
    spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", "llama")
    spoil(base)
    (base / "model.safetensors").write_bytes(b"not looked at")
    told, hint = refuse(BaseModelError, open_network, "kv", base=str(base))
    assert message in told
    assert hint


@BAD
@pytest.mark.usefixtures("cache")
def test_of_a_base_on_the_hub_that_is_refused_no_weights_are_downloaded(
    spoil: Callable[[Path], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_base(tmp_path / "base", "llama")
    spoil(base)
    stored = {path.name: path.read_bytes() for path in base.iterdir()}
    with serve_hub(stored, tmp_path / "hub", monkeypatch) as hub:
        told, _ = refuse(BaseModelError, open_network, "kv", base=REPO)
        assert message in told
        assert {"config.json", "tokenizer.json"} <= hub.asked
        assert "model.safetensors" not in hub.asked


@pytest.mark.usefixtures("cache")
def test_a_folder_of_an_older_version_is_read_and_others_are_refused(tmp_path: Path) -> None:
    path = find_kv(str(write_base(tmp_path / "base", "qwen2"))).path / "config.json"
    values = json.loads(path.read_text("utf-8"))
    old = values | {"network": "own", "width": 0, "features": [], "learned_places": False}
    assert KvConfig.from_json(old) == KvConfig.from_json(values)
    assert read_seated(path) == KvConfig.from_json(values)
    for odd, message in (
        ({"turns": ["a"]}, "turns are the seven texts around turns"),
        ({"width": 8}, 'unknown field "width" of kv'),
        ({"network": "seats"}, 'network is "kv"'),
    ):
        with pytest.raises(CheckpointError, match=message):
            KvConfig.from_json(old | odd)


# ---- the names of networks ----------------------------------------------------------------------


def test_a_base_alone_is_a_network_but_a_checkpoint_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, variable in (
        (CompileOptions, "D2L_CHECKPOINT"),
        (TaskCompileOptions, "T2L_CHECKPOINT"),
    ):
        monkeypatch.delenv(variable, raising=False)
        assert options().checkpoint == DEFAULT
        assert options(base="a/b").checkpoint == "kv"
        assert options("smollm2-135m", "a/b").checkpoint == "smollm2-135m"
        monkeypatch.setenv(variable, "smollm2-135m")
        assert options(base="a/b").checkpoint == "smollm2-135m"
        assert options("own", "a/b").checkpoint == "own"


def test_own_without_a_base_is_refused() -> None:
    said = ('checkpoint "own" needs a base', "name it with --base")
    assert refuse(CheckpointError, find_checkpoint, "own") == said


# ---- memories in front of a question ------------------------------------------------------------


def load_causal(base: Path) -> Any:
    """Load a base by transformers."""
    return AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )


def read_whole(base: Path, ids: list[int]) -> torch.Tensor:
    """Logits behind a prompt, by transformers."""
    with torch.no_grad():
        return load_causal(base)(torch.tensor([ids])).logits[0, -1]


def read_behind(asker: Any, memories: Any, lead: list[int], rest: list[int]) -> torch.Tensor:
    """Logits behind the question, with memories in the cache behind the ids of `lead`."""
    maker = PrefixMaker(asker.model, lead, n_lead=len(lead), first_layer=0)
    made = maker.make_cache(memories)
    context = Context(TorchCache(made, "unseated"), rest)
    return read_logits(asker, Start(len(rest), context=context))[-1]


@pytest.mark.parametrize("system", [None, OTHER])
@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_a_part_is_the_page_in_the_prompt(
    family: str, system: str | None, make: Callable[[str], Compiled]
) -> None:
    done = make(family)
    asker, tokenizer = load(done), AutoTokenizer.from_pretrained(done.base)
    config: KvConfig = done.plan.config
    chunk = done.plan.chunks[2]
    network = done.plan.network
    loaded = network.load(device="cpu", dtype=torch.float32)
    (memory,) = loaded.write(chunk, *loaded.read([chunk]), [chunk.part_rank])
    asked = asker.complete(TURNS, AskOptions())  # with the wish for a whole answer
    given = [{"role": "system", "content": system}, *asked] if system else asked
    _, rest, _, lead, *_ = asker.kept.write(asker, given, given)
    before = list(config.read_opening if lead is None else lead)
    assert (lead is None) == (system is None)
    texts, page = TurnTexts(*config.turns), tokenizer.decode(chunk.token_ids)
    page = page.removeprefix(texts.lead(INSTRUCTION))
    assert page.endswith("\n\n")
    assert page.split() == f"The mill\n{chunk.text}".split()  # it begins with its own title
    whole = texts.lead(system or INSTRUCTION) + page + texts.rest(asked)
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert [*before, *chunk.token_ids[len(config.read_opening) :], *rest] == ids
    exact = read_behind(asker, [memory], before, rest)
    if system is None:  # behind another lead keys and values are those that were read before
        expected = read_whole(done.base, ids)
        torch.testing.assert_close(exact, expected, atol=1e-4, rtol=1e-4)
    options = AskOptions(parts=PartOptions(page="#2"), system=system)
    start = asker.read(TURNS, options)
    assert start.context is not None
    stored = read_logits(asker, start)[-1]
    assert start.context.ids == rest
    assert start.context.cache.n_tokens == len(before) + chunk.part_rank
    lacking = read_whole(done.base, [*before, *rest])
    errors = [float((got - exact).abs().mean()) for got in (stored, lacking)]
    assert errors[0] < 0.5 * errors[1]  # four bits a number


# ---- the adapter that other engines load --------------------------------------------------------


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
@pytest.mark.parametrize("family", ["gemma2", "mistral", "qwen2", "qwen3"])
def test_seats_hold_the_beginning_of_the_text(family: str, make: Callable[[str], Compiled]) -> None:
    done = make(family)
    config, base = done.plan.config, load_causal(done.base)
    tuned = peft.PeftModel.from_pretrained(base, done.adapter)
    tokenizer = AutoTokenizer.from_pretrained(done.adapter)
    prompt = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    opening = config.opening(config.max_seats)
    assert prompt.startswith(f"{tokenizer.decode(opening)}\n{INSTRUCTION}")
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert tuple(ids[0, : len(opening)].tolist()) == opening
    told = [{"role": "system", "content": OTHER}, *TURNS]
    prompt = tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
    assert prompt.startswith(f"{tokenizer.decode(opening)}\n{OTHER}")
    assert INSTRUCTION not in prompt

    loaded = done.plan.network.load(device="cpu", dtype=torch.float32)
    shared = [chunk for chunk in done.plan.chunks if chunk.rank]
    memories = [loaded.write(chunk, *loaded.read([chunk]), [chunk.rank])[0] for chunk in shared]
    memory = join_memories(memories)
    assert memory.n_seats == config.max_seats
    attention = tuned.get_base_model().model.layers[config.first_layer].self_attn
    for module, rows in ((attention.k_proj, memory.keys), (attention.v_proj, memory.values)):
        outputs: list[torch.Tensor] = []
        handle = module.register_forward_hook(lambda *given, o=outputs: o.append(given[2]))
        with torch.no_grad():
            tuned(ids)
        handle.remove()
        got, wanted = outputs[0][0, 1 : len(opening)], rows[-1]  # fewer than the 32 dimensions
        assert float((got - wanted).abs().mean()) < 0.05 * float(wanted.abs().mean())


@pytest.mark.usefixtures("cache")
def test_a_text_shorter_than_the_opening_fills_it(tmp_path: Path) -> None:
    done = compile_own(tmp_path, "llama", "Yes.\n")
    assert done.plan.rank == done.plan.config.min_seats
    (record, overview) = load(done).kept.records
    assert record.n_seats < done.plan.rank
    assert overview.is_overview


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_solved_examples_are_turns_before_the_next_question(family: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", family)
    network = open_network("kv", base=str(base)).for_tasks()
    config, tokenizer = network.config, network.tokenizer
    examples = [Example("pump", ("yes",)), Example("key", ("no",))]
    ids = write_turns(config, tokenizer, "Is it big?", examples)
    asked = [*config.after_opening, *tokenizer.encode("lantern"), *config.before_answer]
    told = tokenizer.decode([*config.read_opening, *ids, *asked])
    talk = ["Is it big?\n\npump", "yes", "key", "no", "lantern"]
    roles = ["user", "assistant", "user", "assistant", "user"]
    turns = [{"role": role, "content": text} for role, text in zip(roles, talk, strict=True)]
    texts = TurnTexts(*config.turns)
    if family in ("gemma2", "mistral"):  # without a turn of the system
        turns[-1]["content"] = texts.behind_system + turns[-1]["content"]
    assert told == texts.lead("") + texts.rest(turns)


# ---- second moments -----------------------------------------------------------------------------


def test_a_bases_moments_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, labels = tmp_path, list[str]()

    def watch(items: Any, label: str) -> Any:
        labels.append(label)
        return items

    def prepare() -> Path:
        network = open_network("kv", base=str(root / "llama-tiny"), offline=True)
        network.prepare(device="cpu", watch=watch)
        path = network.find_moments()
        assert path is not None
        assert path.name.startswith(network.base.digest()[:16])
        return path

    monkeypatch.setenv("D2L_CACHE_DIR", str(root / "cache"))
    measure_little(monkeypatch)
    base = write_base(root / "llama-tiny", "llama")
    path = prepare()
    assert labels == ["measuring the base"]
    before = path.read_bytes()
    assert prepare() == path
    assert labels == ["measuring the base"]
    path.unlink()
    assert prepare().read_bytes() == before
    assert len(labels) == 2
    state = load_file(base / "model.safetensors")
    state["model.layers.0.mlp.up_proj.weight"] *= 2
    save_file(state, base / "model.safetensors", {"format": "pt"})
    other = prepare()
    assert other != path
    assert len(labels) == 3
    assert path.read_bytes() == before != other.read_bytes()
