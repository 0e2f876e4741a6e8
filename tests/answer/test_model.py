import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.adapters import patterns
from d2l.answer import chat_prompts
from d2l.bases.tokenizers import load_chat_tokenizer
from d2l.documents.document import Document
from d2l.errors import AdapterError, BaseModelError
from d2l.readers.parsing import Section
from d2l.runtimes.check import CheckOptions, check
from tests import tiny
from tests.compiled import (
    KINDS,
    Compile,
    compile_tiny,
    family_of,
    generate,
    make_dense,
    write_prompt,
)
from tests.loaded import (
    ALL_WORDS,
    N_TOKENS,
    QUESTION,
    change_json,
    copy_adapter,
    load,
    record_prompts,
    refuse,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# ---- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_merged_dense_model(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    asker = load(done)
    prompts = record_prompts(asker)
    dense = make_dense(kind, done.adapter)
    for question in (QUESTION, "Where is the pump?", "Wo?"):
        prompt = write_prompt(question, ALL_WORDS if kind == "seats" else tiny.SYSTEM)
        assert asker.ask(question) == generate(dense, prompt, N_TOKENS)
        assert prompts.pop() == tiny.encode(prompt)[len(asker.opening) :]
    # All prompts share the opening, which is read for the first alone.
    assert prompts == [list(asker.opening)] * bool(asker.opening)


def test_asking_loads_one_tokenizer(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []

    def note(folder: Path) -> Any:
        loaded.append(folder)
        return load_chat_tokenizer(folder)

    monkeypatch.setattr(chat_prompts, "load_chat_tokenizer", note)
    done = compiled("seats")
    asker = load(done)
    asker.ask(QUESTION)
    assert loaded == [done.adapter]
    asker.ask_alone(QUESTION)
    assert loaded == [done.adapter, done.base]


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_the_base_alone_answers_without_adapter_and_opening(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    asker = load(done)
    before = asker.ask(QUESTION)
    expected = generate(tiny.make_causal(family_of(kind)), write_prompt(QUESTION), N_TOKENS)
    assert asker.ask_alone(QUESTION) == expected
    assert asker.ask(QUESTION) == before != expected  # the adapter is on again


def test_pieces_of_an_answer_come_as_they_are_made_and_make_the_whole(compiled: Compile) -> None:
    asker = load(compiled("seats"))
    pieces: list[str] = []
    answer = asker.ask(QUESTION, pieces.append)
    assert len(pieces) > 1
    assert "".join(pieces).strip() == answer
    assert "<|im_" not in "".join(pieces)


def test_greedy_answers_do_not_heed_the_bases_own_sampling_settings(
    compiled: Compile, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = compiled("llama")
    base = shutil.copytree(done.base, tmp_path / "llama-tiny")
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.8}
    (base / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 2}))
    asker = load(done, base=str(base))
    assert asker.ask(QUESTION) == load(done).ask(QUESTION)
    assert capfd.readouterr() == ("", "")


def test_a_temperature_samples_reproducibly_under_a_seed(compiled: Compile) -> None:
    asker = load(compiled("llama"), temperature=1.5)
    answers = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            answers.append(asker.ask(QUESTION))
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-9])
def test_next_to_no_temperature_is_greedy(temperature: float, compiled: Compile) -> None:
    done = compiled("llama")
    assert load(done, temperature=temperature).ask(QUESTION) == load(done).ask(QUESTION)


# ---- one adapter after the other ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_an_adapter_takes_the_place_of_another_without_a_trace(
    kind: str, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled(kind)
    page = Document("note.txt", "text", (Section("The copper lantern."),), "1" * 64, 19)
    other = compile_tiny(tmp_path, kind, page)
    expected = {path: load(done, path).ask(QUESTION) for path in (done.adapter, other.adapter)}
    asker = load(done)
    alone = asker.ask_alone(QUESTION)
    for path in (other.adapter, done.adapter, done.adapter, other.adapter):
        asker.set_adapter(path)
        assert asker.ask(QUESTION) == expected[path]
        assert asker.ask_alone(QUESTION) == alone
        assert len(asker.model.peft_config) == 1
        assert asker.info.folder == path
    assert len(set(expected.values())) == 2


# ---- the opening --------------------------------------------------------------------------------


def test_a_prompt_without_the_opening_is_refused(compiled: Compile, tmp_path: Path) -> None:
    adapter = copy_adapter(compiled("seats"), tmp_path)
    (adapter / "chat_template.jinja").write_text(tiny.CHAT_TEMPLATE, "utf-8")
    asker = load(compiled("seats"), adapter)
    error = refuse(lambda: asker.ask(QUESTION))
    assert isinstance(error, AdapterError)
    said = "the prompt does not begin with the adapter's opening, so its memory cannot be read"
    assert error.message == f"{adapter}: {said}"
    assert error.hint == ("chat_template.jinja was changed, or the base's tokenizer is another one")
    assert asker.ask_alone(QUESTION) == load(compiled("seats")).ask_alone(QUESTION)
    (adapter / "chat_template.jinja").unlink()
    without = load(compiled("seats"), adapter)
    assert refuse(lambda: without.ask(QUESTION)).message == error.message


def test_an_opening_beyond_the_vocabulary_is_one_error(compiled: Compile, tmp_path: Path) -> None:
    done = compiled("seats")
    adapter = copy_adapter(done, tmp_path)
    values = json.loads((adapter / "d2l.json").read_text("utf-8"))
    values["prompt"]["opening"]["ids"][-1] = 10**9
    (adapter / "d2l.json").write_text(json.dumps(values), "utf-8")
    error = refuse(lambda: load(done, adapter))
    assert error.message == (
        f"{adapter / 'd2l.json'}: the opening has token 1000000000, and the base "
        f"{tiny.vocab_size():,} tokens"
    )
    report = check(adapter, CheckOptions(base=str(done.base), offline=True))
    assert [fault.message for fault in report.faults] == [
        f"the opening has token 1000000000, and the base {tiny.vocab_size():,} tokens"
    ]


@pytest.mark.slow
def test_patterns_are_tried_before_peft_matches_them(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "LIMITS", patterns.LIMITS._replace(seconds=1.0))
    done = compiled("llama")
    adapter = copy_adapter(done, tmp_path)
    change_json(adapter / "adapter_config.json", target_modules="(.*)*x")
    error = refuse(lambda: load(done, adapter))
    assert error.message.endswith("target_modules has patterns that take more than 1 seconds")


def test_code_beside_an_adapter_is_not_run_nor_is_the_user_asked(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, marker = copy_adapter(compiled("seats"), tmp_path), tmp_path / "ran"
    (adapter / "evil.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    code = {"AutoTokenizer": ["evil.Slow", "evil.Fast"]}
    change_json(adapter / "tokenizer_config.json", auto_map=code, tokenizer_class="Evil")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    error = refuse(lambda: load(compiled("seats"), adapter))
    assert error.message == f"{adapter}: the tokenizer cannot be loaded"
    assert not marker.exists()


# ---- bases that do not fit ----------------------------------------------------------------------


def test_a_base_of_other_shapes_is_refused_before_it_is_asked(compiled: Compile) -> None:
    seats, other = compiled("seats"), compiled("gemma2")
    error = refuse(lambda: load(seats, base=str(other.base)))
    assert isinstance(error, AdapterError)
    said = "model.layers.1.self_attn.k_proj is 16 × 32, the base has 32 × 32"
    assert error.message == f"{seats.adapter}: {said}"
    assert error.hint == "name the base that the adapter was made for with --base"


@pytest.mark.parametrize("name", [None, ""])
def test_an_unnamed_base_must_be_given(name: str | None, compiled: Compile, tmp_path: Path) -> None:
    done = compiled("llama")
    adapter = copy_adapter(done, tmp_path)
    change_json(adapter / "adapter_config.json", base_model_name_or_path=name)
    error = refuse(lambda: load(done, adapter, base=None))
    assert error.message == f"{adapter}: does not name its base"
    assert error.hint == "name it with --base"
    assert load(done, adapter).ask(QUESTION) == load(done).ask(QUESTION)


def test_a_base_without_a_chat_template_is_refused(compiled: Compile, tmp_path: Path) -> None:
    done = compiled("llama")
    base = shutil.copytree(done.base, tmp_path / "llama-tiny")
    change_json(base / "tokenizer_config.json", chat_template=None)
    asker = load(done, base=str(base))
    for ask in (asker.ask, asker.ask_alone):
        error = refuse(lambda ask=ask: ask(QUESTION))
        assert isinstance(error, BaseModelError)
        assert error.message == f"{base}: has no chat template, so it cannot be asked"
        assert error.hint == "name the base's instruction-tuned version with --base"


@pytest.mark.parametrize("damage", ["missing", "not JSON"])
def test_a_base_needs_its_tokenizer(damage: str, compiled: Compile, tmp_path: Path) -> None:
    done = compiled("llama")
    base = shutil.copytree(done.base, tmp_path / "llama-tiny")
    (base / "tokenizer.json").write_text("{")
    if damage == "missing":
        (base / "tokenizer.json").unlink()
    error = refuse(lambda: load(done, base=str(base)))
    assert error.message == f"{base}: the tokenizer cannot be loaded"
    assert error.hint == "the folder needs tokenizer.json and tokenizer_config.json, undamaged"


# ---- adapters of other tools, and damaged ones --------------------------------------------------


@pytest.mark.parametrize("letter", ["A", "B"])
@pytest.mark.parametrize("damage", ["missing", "of one dimension"])
def test_half_a_pair_of_matrices_is_one_clear_error(
    letter: str, damage: str, compiled: Compile, tmp_path: Path
) -> None:
    adapter = copy_adapter(compiled("llama"), tmp_path)
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    name = f"base_model.model.model.layers.1.mlp.down_proj.lora_{letter}.weight"
    tensor = tensors.pop(name)
    if damage != "missing":
        tensors[name] = tensor[0].contiguous()
    save_file(tensors, path, {"format": "pt"})
    error = refuse(lambda: load(compiled("llama"), adapter))
    said = "model.layers.1.mlp.down_proj does not have two matrices, lora_A and lora_B"
    assert error.message == f"{adapter}: {said}"
    assert str(error.hint).startswith("the adapter is damaged, or was cut short: get it again")


def test_answers_may_be_longer_where_networks_answer_in_sentences(compiled: Compile) -> None:
    for kind, longest in (("seats", 64), ("llama", 256)):
        assert load(compiled(kind), max_new_tokens=0).options.max_new_tokens == longest
