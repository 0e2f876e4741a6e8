import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.documents.document import Document, Section
from d2l.errors import AdapterError, BaseModelError, D2LError
from d2l.inference.adapted_model import Asker, AskOptions, exchange_adapter, load_asker
from d2l.inference.prompt_styles import WORDINGS
from tests import tiny
from tests.compiled import (
    KINDS,
    PEFT_DEPRECATION,
    Compiled,
    compile_tiny,
    family_of,
    generate,
    make_dense,
    write_prompt,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Compile = Callable[[str], Compiled]
QUESTION = "How often is the filter rinsed?"
ALL_WORDS = tiny.SYSTEM + "".join(f" {word}" for word in tiny.WORDS)
WINDOW = 512  # of the tiny bases
N_TOKENS = 16


def load(done: Compiled, adapter: Path | None = None, **changes: Any) -> Asker:
    values = {"base": str(done.base), "device": "cpu", "max_tokens": N_TOKENS, "offline": True}
    return load_asker(adapter or done.adapter, AskOptions(**(values | changes)))


def copy_adapter(done: Compiled, to: Path) -> Path:
    return shutil.copytree(done.adapter, to / "copy.lora")


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def record_prompts(asker: Asker) -> list[list[int]]:
    """Token ids of every prompt from now on: what the model's first pass of an answer reads."""
    prompts: list[list[int]] = []
    embed = asker.model.get_input_embeddings()

    def note(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        ids = inputs[0][0].tolist()
        if len(ids) > 1:  # later passes read one token
            prompts.append(ids)

    embed.register_forward_pre_hook(note)
    return prompts


def refuse(load_it: Callable[[], object]) -> D2LError:
    with pytest.raises(D2LError) as caught:
        load_it()
    return caught.value


# ---- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_merged_dense_model(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    asker = load(done)
    prompts = record_prompts(asker)
    dense = make_dense(kind, done.adapter)
    for question in (QUESTION, "Where is the pump?", "Wo?"):
        prompt = write_prompt(question, ALL_WORDS if kind == "seats" else tiny.SYSTEM)
        assert asker.answer(question) == generate(dense, prompt, N_TOKENS)
        assert prompts.pop() == tiny.encode(prompt)


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_alone_answers_without_adapter_and_opening(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    asker = load(done)
    before = asker.answer(QUESTION)
    expected = generate(tiny.make_causal(family_of(kind)), write_prompt(QUESTION), N_TOKENS)
    assert asker.answer_alone(QUESTION) == expected
    assert asker.answer(QUESTION) == before  # the adapter is on again
    if kind != "gemma2":  # whose random weights always say the same
        assert before != expected


def test_the_base_is_found_by_the_name_in_the_adapter(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compiled("llama")
    monkeypatch.chdir(done.root)
    assert load(done, base=None).answer(QUESTION) == load(done).answer(QUESTION)


def test_answers_are_as_long_as_asked_for(compiled: Compile) -> None:
    done = compiled("llama")
    for n_tokens in (1, 5):
        expected = generate(make_dense("llama", done.adapter), write_prompt(QUESTION), n_tokens)
        assert load(done, max_tokens=n_tokens).answer(QUESTION) == expected


def test_pieces_of_an_answer_come_as_they_are_made_and_make_the_whole(compiled: Compile) -> None:
    asker = load(compiled("seats"))
    pieces: list[str] = []
    answer = asker.answer(QUESTION, pieces.append)
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
    assert asker.answer(QUESTION) == load(done).answer(QUESTION)
    assert capfd.readouterr() == ("", "")


def test_a_temperature_samples_reproducibly_under_a_seed(compiled: Compile) -> None:
    asker = load(compiled("llama"), temperature=1.5)
    answers = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            answers.append(asker.answer(QUESTION))
    assert answers[0] == answers[1] != answers[2]


# ---- the document in the prompt -----------------------------------------------------------------


def test_a_document_that_fits_stands_whole_before_the_question(compiled: Compile) -> None:
    done = compiled("qwen3")
    asker = load(done)
    prompts = record_prompts(asker)
    answer, left_out = asker.answer_with_document(QUESTION, tiny.DOCUMENT)
    prompt = write_prompt(f"{tiny.DOCUMENT}\n\n{QUESTION}")
    assert prompts == [tiny.encode(prompt)]
    assert left_out == 0
    assert answer == generate(tiny.make_causal("qwen3"), prompt, N_TOKENS)


@pytest.mark.parametrize("text", [tiny.DOCUMENT, "🏔☃é", "1234567890", "\n \n\t"])
@pytest.mark.parametrize("max_tokens", [1, N_TOKENS, 300])
def test_a_longer_document_is_cut_at_its_end_to_fill_the_window(
    text: str, max_tokens: int, compiled: Compile, capfd: pytest.CaptureFixture[str]
) -> None:
    document = text * 200
    asker = load(compiled("llama"), max_tokens=max_tokens)
    prompts = record_prompts(asker)
    _, left_out = asker.answer_with_document(QUESTION, document)
    (ids,) = prompts
    room = WINDOW - max_tokens
    assert room - 12 <= len(ids) <= room  # no character is cut in two, and the cut may join tokens
    shown = tiny.load_tokenizer().decode(ids, skip_special_tokens=False)
    before, after = write_prompt("@").split("@")
    kept = shown.removeprefix(before).removesuffix(f"\n\n{QUESTION}{after}")
    assert len(kept) < len(shown) - len(before)
    assert document.startswith(kept)
    n_tokens = len(tiny.encode(document))
    assert left_out == pytest.approx(n_tokens - len(tiny.encode(kept)), abs=2)
    assert capfd.readouterr().err == ""  # transformers would warn of the long text


def test_without_any_room_the_question_is_asked_alone(compiled: Compile) -> None:
    asker = load(compiled("llama"), max_tokens=WINDOW - 10)
    prompts = record_prompts(asker)
    _, left_out = asker.answer_with_document(QUESTION, tiny.DOCUMENT)
    assert prompts == [tiny.encode(write_prompt(f"\n\n{QUESTION}"))]
    assert left_out == len(tiny.encode(tiny.DOCUMENT))


def test_a_wordings_system_text_stands_in_the_system_turn(compiled: Compile) -> None:
    wording = WORDINGS["system"]
    prompt, left_out = load(compiled("llama")).prompt_about(
        "The text.", "Why?", wording, n_answer=9
    )
    expected = (
        f"<|im_start|>system\n{wording.system}<|im_end|>\n"
        "<|im_start|>user\nThe text.\n\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (prompt, left_out) == (tiny.encode(expected), 0)


def test_a_template_without_system_turns_gets_the_system_text_first(
    compiled: Compile, tmp_path: Path
) -> None:
    done = compiled("llama")
    base = shutil.copytree(done.base, tmp_path / "llama-tiny")
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    change_json(base / "tokenizer_config.json", chat_template=refusing + tiny.CHAT_TEMPLATE)
    wording = WORDINGS["system"]
    prompt, _ = load(done, base=str(base)).prompt_about("Text.", "Why?", wording, n_answer=9)
    assert prompt == tiny.encode(write_prompt(f"{wording.system}\n\nText.\n\nWhy?"))


def test_an_answer_ends_where_the_bases_chat_template_ends_it(
    compiled: Compile, tmp_path: Path
) -> None:
    done = compiled("llama")
    assert load(done).end_token() == tiny.CONTROL.index("<|im_end|>")
    base = shutil.copytree(done.base, tmp_path / "llama-tiny")
    other = tiny.CHAT_TEMPLATE.replace("<|im_end|>' + '\n'", "<end_of_turn>\n'")
    change_json(base / "tokenizer_config.json", chat_template=other)
    assert load(done, base=str(base)).end_token() == tiny.CONTROL.index("<end_of_turn>")
    bare = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    change_json(base / "tokenizer_config.json", chat_template=bare, eos_token="</s>")
    assert load(done, base=str(base)).end_token() == tiny.CONTROL.index("</s>")


# ---- one adapter after the other ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_an_adapter_takes_the_place_of_another_without_a_trace(
    kind: str, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled(kind)
    page = Document("note.txt", "text", (Section("The copper lantern."),), "1" * 64, 19)
    other = compile_tiny(tmp_path, kind, page)
    expected = {path: load(done, path).answer(QUESTION) for path in (done.adapter, other.adapter)}
    asker = load(done)
    alone = asker.answer_alone(QUESTION)
    for path in (other.adapter, done.adapter, done.adapter, other.adapter):
        asker = exchange_adapter(asker, path)
        assert asker.answer(QUESTION) == expected[path]
        assert asker.answer_alone(QUESTION) == alone
        assert len(asker.model.peft_config) == 1
        assert asker.info.folder == path
    assert len(set(expected.values())) == 2


# ---- the opening --------------------------------------------------------------------------------


def test_a_prompt_without_the_opening_is_refused(compiled: Compile, tmp_path: Path) -> None:
    adapter = copy_adapter(compiled("seats"), tmp_path)
    (adapter / "chat_template.jinja").write_text(tiny.CHAT_TEMPLATE, "utf-8")
    asker = load(compiled("seats"), adapter)
    error = refuse(lambda: asker.answer(QUESTION))
    assert isinstance(error, AdapterError)
    assert error.message == (
        f"{adapter}: the prompt does not begin with the adapter's opening, "
        "so its memory cannot be read"
    )
    assert error.hint == ("chat_template.jinja was changed, or the base's tokenizer is another one")
    assert asker.answer_alone(QUESTION) == load(compiled("seats")).answer_alone(QUESTION)


def test_a_seats_adapter_without_its_tokenizer_is_refused_too(
    compiled: Compile, tmp_path: Path
) -> None:
    adapter = copy_adapter(compiled("seats"), tmp_path)
    (adapter / "chat_template.jinja").unlink()
    error = refuse(lambda: load(compiled("seats"), adapter).answer(QUESTION))
    assert error.message.startswith(f"{adapter}: the prompt does not begin with")


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
    assert error.message == (
        f"{seats.adapter}: model.layers.1.self_attn.k_proj is 16 × 32, the base has 32 × 32"
    )
    assert error.hint == "name the base that the adapter was made for with --base"


def test_a_base_without_the_module_is_refused(compiled: Compile, tmp_path: Path) -> None:
    adapter = copy_adapter(compiled("llama"), tmp_path)
    path = adapter / "adapter_model.safetensors"
    tensors = {name.replace(".2.mlp", ".7.mlp"): t for name, t in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    assert refuse(lambda: load(compiled("llama"), adapter)).message == (
        f"{adapter}: model.layers.7.mlp.down_proj is 32 × 64, the base has no such module"
    )


@pytest.mark.parametrize("name", [None, ""])
def test_an_adapter_that_names_no_base_needs_one(
    name: str | None, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled("llama")
    adapter = copy_adapter(done, tmp_path)
    change_json(adapter / "adapter_config.json", base_model_name_or_path=name)
    error = refuse(lambda: load(done, adapter, base=None))
    assert error.message == f"{adapter}: does not name its base"
    assert error.hint == "name it with --base"
    assert load(done, adapter).answer(QUESTION) == load(done).answer(QUESTION)


def test_a_base_without_a_chat_template_is_refused(compiled: Compile, tmp_path: Path) -> None:
    done = compiled("llama")
    base = shutil.copytree(done.base, tmp_path / "llama-tiny")
    change_json(base / "tokenizer_config.json", chat_template=None)
    asker = load(done, base=str(base))
    for ask in (asker.answer, asker.answer_alone):
        error = refuse(lambda ask=ask: ask(QUESTION))
        assert isinstance(error, BaseModelError)
        assert error.message == f"{base}: has no chat template, so it cannot be asked"
        assert error.hint == "name the base's instruction-tuned version with --base"


@pytest.mark.parametrize("damage", ["missing", "not JSON"])
def test_a_base_without_a_tokenizer_is_refused(
    damage: str, compiled: Compile, tmp_path: Path
) -> None:
    done = compiled("llama")
    base = shutil.copytree(done.base, tmp_path / "llama-tiny")
    (base / "tokenizer.json").write_text("{")
    if damage == "missing":
        (base / "tokenizer.json").unlink()
    error = refuse(lambda: load(done, base=str(base)))
    assert error.message == f"{base}: the tokenizer cannot be loaded"
    assert error.hint == "the folder needs tokenizer.json and tokenizer_config.json, undamaged"


# ---- adapters of other tools, and damaged ones --------------------------------------------------


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
def test_an_adapter_that_peft_itself_wrote_answers(compiled: Compile, tmp_path: Path) -> None:
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(tiny.make_causal("qwen3"), config)
    generator = torch.Generator().manual_seed(6)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    model.save_pretrained(tmp_path / "foreign")
    done = compiled("qwen3")
    asker = load(done, tmp_path / "foreign")
    merged = model.merge_and_unload()
    expected = generate(merged, write_prompt(QUESTION), N_TOKENS)
    assert asker.answer(QUESTION) == expected != asker.answer_alone(QUESTION)
    assert asker.info.provenance is None


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"peft_type": "NEWER"}, "KeyError: 'NEWER'"),
        ({"r": 5}, "RuntimeError: Error(s) in loading state_dict for PeftModelForCausalLM:"),
        ({"target_modules": ["nothing"]}, "Target modules {'nothing'} not found in the base"),
        ({"lora_alpha": "x"}, "TypeError: "),
    ],
)
def test_an_adapter_that_peft_refuses_is_one_clear_error(
    changes: dict[str, Any], hint: str, compiled: Compile, tmp_path: Path
) -> None:
    adapter = copy_adapter(compiled("llama"), tmp_path)
    change_json(adapter / "adapter_config.json", **changes)
    error = refuse(lambda: load(compiled("llama"), adapter))
    assert isinstance(error, AdapterError)
    assert error.message == f"{adapter}: PEFT cannot load this adapter"
    assert error.hint is not None
    assert hint in error.hint
    assert "\n" not in error.hint


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
    assert error.message == (
        f"{adapter}: model.layers.1.mlp.down_proj does not have two matrices, lora_A and lora_B"
    )
    assert error.hint == "the adapter is damaged: compile the document again"
