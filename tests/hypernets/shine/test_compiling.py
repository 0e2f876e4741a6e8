"""Released SHINE files through the command line: the adapter, the prompt, and the cut."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l.adapters.peft_folder import read_adapter
from d2l.answer.chat_prompts import ChatPrompts, user_turn
from d2l.answer.torch_engine import TorchEngine
from d2l.bases.tokenizers import load_chat_tokenizer
from d2l.hypernets.networks import open_network
from d2l.parts.engine import Cache, Decoding
from tests import tiny
from tests.command import Command
from tests.hypernets import shine_reference as reference
from tests.hypernets.loading import SIBLING
from tests.test_pipeline import load_with_peft

#: fp32 sums in another order than the original's, through a random network.
EXACT = 1e-4
GOLDENS = ("qwen3_tiny_shine", "qwen3_tiny_shine_zero")
pytestmark = pytest.mark.usefixtures("one_thread")


def measure_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in units of the largest value."""
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.fixture
def checkpoint(working_folder: Path) -> Path:
    """A small checkpoint in the released layout, beside its base and a note."""
    tiny.write_base(working_folder / tiny.base_name("qwen3"), "qwen3")
    (working_folder / "note.txt").write_text(tiny.DOCUMENT)
    made = reference.make_checkpoint(tiny.make_causal("qwen3"))
    return reference.write_checkpoint(
        working_folder / "network", made, tiny.base_name("qwen3"), scale=reference.SCALE
    )


def compile_note(command: Command, checkpoint: Path, *more: object) -> str:
    """Compile the note, and return the warnings."""
    words = ("compile", "note.txt", "-o", "note.lora", "--checkpoint", checkpoint)
    done = command(*words, "--device", "cpu", "--dtype", "fp32", *more)
    assert done.code == 0, done.err
    return done.err


# ---- the original's goldens ---------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_documents_give_the_recorded_adapter_and_answers(
    name: str, working_folder: Path, command: Command
) -> None:
    folder = SIBLING / "shine" / name
    if not folder.is_dir():
        pytest.skip(f"no golden {name} beside the repository")
    info = json.loads((folder / "info.json").read_text("utf-8"))
    base = SIBLING / info["base_model"]
    prompt = ChatPrompts(load_chat_tokenizer(base)).encode([user_turn(info["question"])])
    inputs = load_file(folder / "inputs.safetensors")
    expected = load_file(folder / "expected.safetensors")
    assert inputs["question_ids"].tolist() == [prompt]
    for case, document in info["documents"].items():
        out = working_folder / f"{case}.lora"
        Path(f"{case}.txt").write_text(document["text"], "utf-8")
        words = ("compile", f"{case}.txt", "-o", out, "--dtype", "fp32", "--device", "cpu")
        network = ("--checkpoint", folder / "checkpoint-epoch-1", "--base", base)
        done = command(*words, *network)
        assert done.code == 0, done.err
        written = load_file(out / "adapter_model.safetensors")
        recorded = f"{case}.lora."
        wanted = {n.removeprefix(recorded): t for n, t in expected.items() if recorded in n}
        assert written.keys() == wanted.keys()
        assert max(measure_error(written[n], wanted[n]) for n in wanted) < EXACT
        model = load_with_peft(base, out)
        for asked, answer in (("question_ids", "logits"), ("question_think_ids", "think_logits")):
            with torch.no_grad():
                logits = model(inputs[asked]).logits
            assert measure_error(logits, expected[f"{case}.{answer}"]) < EXACT


# ---- a small network, against its reference -----------------------------------------------------


def test_adapter_is_that_of_the_reference(checkpoint: Path, command: Command) -> None:
    warnings = compile_note(command, checkpoint)
    assert "warning" not in warnings
    causal = tiny.make_causal("qwen3")
    made = reference.make_checkpoint(causal)
    wanted = reference.compute_factors(causal, made, tiny.encode(tiny.DOCUMENT))
    weights = read_adapter(Path("note.lora"))
    assert weights.rank == reference.RANK
    assert weights.factors.keys() == wanted.keys()
    for name, (a, b) in wanted.items():
        assert measure_error(weights.factors[name].a, a) < EXACT
        assert measure_error(weights.factors[name].b * weights.scale, b) < EXACT


def test_the_base_is_left_as_it_was(checkpoint: Path) -> None:
    loaded = open_network(str(checkpoint)).load(device="cpu", dtype=torch.float32)
    ids = torch.tensor([tiny.encode(tiny.DOCUMENT)])
    with torch.no_grad():
        before = loaded.encode.model(ids).last_hidden_state
        loaded.encode(tiny.encode(tiny.DOCUMENT))
        assert torch.equal(loaded.encode.model(ids).last_hidden_state, before)


def test_options_of_many_chunks_are_refused(checkpoint: Path, command: Command) -> None:
    words = ("compile", "note.txt", "-o", "x", "--checkpoint", checkpoint)
    for more in (("--tokens-per-seat", 2), ("--parts",), ("--bias-scale", 2)):
        done = command(*words, *more)
        assert done.code == 1
        assert f"{checkpoint}: writes one LoRA of one document" in done.err
        assert f"leave out {more[0]}" in done.err
    Path("other.txt").write_text("The valve is copper.")
    assert "leave out other documents" in command(*words, "other.txt").err
    assert not Path("x").exists()


def test_scale_and_rank_are_those_of_the_options(checkpoint: Path, command: Command) -> None:
    compile_note(command, checkpoint)
    whole = read_adapter(Path("note.lora"))
    compile_note(command, checkpoint, "--force", "--scale", 0.5, "--max-rank", 1)
    weak = read_adapter(Path("note.lora"))
    assert weak.rank == 1
    for name, f in whole.factors.items():
        wanted = torch.linalg.svdvals(whole.scale * f.b @ f.a)[0]
        got = torch.linalg.svdvals(weak.scale * weak.factors[name].b @ weak.factors[name].a)[0]
        assert abs(got / wanted - 0.5) < EXACT


# ---- cutting ------------------------------------------------------------------------------------


def test_a_longer_text_is_cut_and_the_rest_is_counted(checkpoint: Path, command: Command) -> None:
    ids = tiny.encode(tiny.DOCUMENT)
    told = " ".join(compile_note(command, checkpoint, "--chunk-tokens", 20).split())
    assert f"the last {len(ids) - 20} of note.txt are left out" in told
    whole = tiny.load_tokenizer().encode(tiny.DOCUMENT, add_special_tokens=False)
    (chunk,) = json.loads(Path("note.lora/d2l.json").read_text("utf-8"))["chunks"]
    assert chunk["n_tokens"] == 20
    assert chunk["characters"] == [0, whole.offsets[20][0]]
    causal = tiny.make_causal("qwen3")
    wanted = reference.compute_factors(causal, reference.make_checkpoint(causal), ids[:20])
    got = read_adapter(Path("note.lora")).factors
    assert all(measure_error(got[name].a, a) < EXACT for name, (a, _) in wanted.items())


def test_texts_beyond_those_of_training_are_read_and_warned_of(
    checkpoint: Path, command: Command
) -> None:
    Path("note.txt").write_text("The pump. " * 800)
    words = ("compile", "note.txt", "-o", "x", "--checkpoint", checkpoint, "--dry-run")
    n_tokens = len(tiny.encode("The pump. " * 800))
    assert n_tokens > 2380
    told = " ".join(command(*words).err.split())
    assert f"the first 2,380 tokens (--chunk-tokens); the last {n_tokens - 2380:,} of" in told
    told = " ".join(command(*words, "--chunk-tokens", 9999).err.split())
    assert f"{n_tokens:,} tokens are more than a text of the network's training had" in told
    assert "left out" not in told


# ---- the prompt ---------------------------------------------------------------------------------

#: The end of Qwen 3's own template: thinking is on unless it is refused.
THINKING = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def test_questions_have_the_form_of_training_without_an_empty_thought(
    checkpoint: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Path(tiny.base_name("qwen3")) / "tokenizer_config.json"
    values = json.loads(settings.read_text()) | {"chat_template": THINKING}
    settings.write_text(json.dumps(values))
    compile_note(command, checkpoint)
    asked = []
    generate = TorchEngine.generate

    def listen(self: TorchEngine, cache: Cache, ids: Sequence[int], decoding: Decoding) -> object:
        asked.append((cache.n_tokens, list(ids)))
        return generate(self, cache, ids, decoding)

    monkeypatch.setattr(TorchEngine, "generate", listen)
    done = command("ask", "note.lora", "Where?", "--device", "cpu", "--max-tokens", 2)
    assert done.code == 0, done.err
    prompt = "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    assert asked == [(0, tiny.encode(prompt))]
    card = " ".join(Path("note.lora/README.md").read_text("utf-8").split())
    assert "Leave the template's thinking on" in card
