"""`t2l make`: recorded adapters come out of the command line, and every mode works on tiny models.

Expected values were recorded from the original project's code (SakanaAI/text-to-lora at 8ba7749).
"""

import io
import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from d2l.adapters.peft_folder import read_adapter
from d2l.api.compiler import TaskCompiler
from d2l.bases.load_errors import quiet_transformers
from d2l.hypernets.options import TaskCompileOptions
from tests import tiny
from tests.command import Command
from tests.slow import slow_after

GOLDENS = Path(__file__).parents[3] / "shared" / "goldens"
CASES = sorted(path.name for path in (GOLDENS / "t2l").glob("*"))
TASK = "open the copper valve"

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- recorded adapters --------------------------------------------------------------------------


def write(maker: TaskCompiler, description: str, out: Path) -> Path:
    return maker(description).save_pretrained(out)


@pytest.mark.skipif(not CASES, reason="the goldens are not beside the repository")
@pytest.mark.parametrize("case", CASES or ["none"])
def test_recorded_adapters_come_out(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(GOLDENS)  # checkpoints name their base and embedder from there
    info = json.loads(Path(f"t2l/{case}/info.json").read_text("utf-8"))
    expected = load_file(f"t2l/{case}/expected.safetensors")
    standard = info["peft"]["lora_alpha"] / info["peft"]["r"]
    for index, text in enumerate(info["tasks"]):
        for scaling, scale in (("standard", standard), ("config", info["scaling"])):
            out = tmp_path / f"{scaling}-{index}"
            done = command.t2l(
                "make", text, "-o", out, "--checkpoint", f"t2l/{case}", "--scaling", scaling,
                "--dtype", "fp32", "--json",
            )  # fmt: skip
            assert (done.code, done.err) == (0, "")
            values = json.loads(done.out)
            assert values["scale"] == pytest.approx(scale)
            weights = read_adapter(out)
            assert weights.scale == 1.0
            for name, factors in weights.factors.items():
                key = f"text{index}.lora.base_model.model.{name}.lora_"
                a, b = expected[f"{key}A.weight"], expected[f"{key}B.weight"]
                torch.testing.assert_close(factors.a, a, atol=2e-5, rtol=0)
                torch.testing.assert_close(factors.b / scale, b, atol=2e-5, rtol=0)
    with quiet_transformers():
        model = transformers.AutoModelForCausalLM.from_pretrained(info["base_model"])
        tuned = peft.PeftModel.from_pretrained(model, str(tmp_path / "config-0")).eval()
    ids = load_file(f"t2l/{case}/inputs.safetensors")["query_ids"]
    with torch.no_grad():
        logits = tuned(ids).logits
    torch.testing.assert_close(logits, expected["text0.logits"], atol=1e-4, rtol=0)


# ---- tiny models --------------------------------------------------------------------------------


@pytest.fixture
def place(working_folder: Path) -> Path:
    """A folder with a base, an embedder and a checkpoint for each way to embed."""
    tiny.write_base(working_folder / "tiny-org" / "mistral-tiny", "mistral")
    tiny.write_encoder(working_folder / "tiny-org" / "gte-tiny")
    tiny.write_text_to_lora(working_folder / "by-gte", "mistral", "tiny-org/gte-tiny")
    tiny.write_text_to_lora(working_folder / "by-base", "mistral", None)
    return working_folder


@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_every_family_gets_adapters_that_peft_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_base(tmp_path / "tiny-org" / f"{family}-tiny", family)
    checkpoint = tiny.write_text_to_lora(tmp_path / "t2l", family, None)
    maker = TaskCompiler(TaskCompileOptions(str(checkpoint), offline=True, dtype="fp32"))
    out = write(maker, TASK, tmp_path / "task.lora")
    weights = read_adapter(out)
    direct = tiny.add_delta(tiny.make_causal(family), weights)
    with quiet_transformers():
        tuned = peft.PeftModel.from_pretrained(tiny.make_causal(family), str(out)).eval()
    ids = torch.tensor([tiny.encode("The pump stands in the harbor.")])
    with torch.no_grad():
        torch.testing.assert_close(tuned(ids).logits, direct(ids).logits, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(tuned(ids).logits, tiny.make_causal(family)(ids).logits)


@pytest.mark.parametrize("checkpoint", ["by-gte", "by-base"])
def test_made_adapters_are_asked_and_shown(place: Path, command: Command, checkpoint: str) -> None:
    done = command.t2l("make", TASK, "-o", "task.lora", "--checkpoint", checkpoint)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "task.lora"
    assert "scaling     standard (2)" in done.out
    answered = command("ask", "task.lora", "Where is the pump?", "--max-tokens", 3, "--compare")
    assert (answered.code, answered.err) == (0, "… (cut at 3 tokens: --max-tokens)\n" * 2)
    shown = command("inspect", "task.lora")
    assert (shown.code, shown.err) == (0, "")
    assert ["task", *TASK.split()] in [line.split() for line in shown.out.splitlines()]
    assert ("base file" in shown.out) == (checkpoint == "by-base")
    values = json.loads(command("inspect", "task.lora", "--json").out)
    assert values["provenance"]["description"]["text"] == TASK
    assert values["provenance"]["inputs"] == []
    card = (place / "task.lora" / "README.md").read_text("utf-8")
    assert TASK in card
    assert "come from a runtime that used alpha / rank" in card


def test_the_same_description_gives_the_same_bytes(place: Path) -> None:
    maker = TaskCompiler(TaskCompileOptions("by-gte", offline=True))
    first = write(maker, TASK, place / "one" / "x.lora")
    second = write(maker, TASK, place / "two" / "x.lora")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    other = write(maker, "light the lantern in the meadow", place / "other")
    name = "adapter_model.safetensors"
    assert (other / name).read_bytes() != (first / name).read_bytes()


def test_no_weights_of_the_base_are_needed_where_it_does_not_embed(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "tiny-org" / "mistral-tiny" / "model.safetensors").unlink()
    make = ("make", TASK, "--checkpoint", "by-gte", "--offline", "-o")
    assert command.t2l(*make, "first").code == 0
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "nothing"))
    (place / "tiny-org" / "mistral-tiny").rename(place / "away")
    done = command.t2l(*make, "second")
    assert done.code == 0
    assert done.err == (
        "warning: the config of tiny-org/mistral-tiny is not at hand, so it was not checked that "
        "the adapter's shapes fit\n"
    )
    name = "adapter_model.safetensors"
    assert Path("first", name).read_bytes() == Path("second", name).read_bytes()
    assert command.t2l(*make, "third", "--base", "away").err == (
        "warning: the checkpoint was trained for tiny-org/mistral-tiny, and away does not look "
        "like it: the shapes fit, so every runtime will accept the adapter, but answers may be "
        "nonsense\n"
    )


def test_standard_input_is_a_description(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    del place
    command.t2l("make", TASK, "-o", "one", "--checkpoint", "by-gte")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{TASK}\n".encode())))
    done = command.t2l("make", "-", "-o", "two", "--checkpoint", "by-gte")
    assert (done.code, done.err) == (0, "")
    name = "adapter_model.safetensors"
    assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


@pytest.mark.usefixtures("place")
def test_a_description_that_is_cut_is_a_warning(command: Command) -> None:
    long = "open the copper valve " * 60
    done = command.t2l("make", long, "-o", "x", "--checkpoint", "by-gte", "--json")
    (warning,) = json.loads(done.out)["warnings"]
    assert warning.startswith("tiny-org/gte-tiny reads 128 tokens; the last ")
    assert done.err == f"warning: {warning}\n"
    assert warning in Path("x", "README.md").read_text("utf-8")


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "-o", "x", "--checkpoint", "by-gte"), "the description is empty"),
        (("x" * 3_000_000, "-o", "x", "--checkpoint", "by-gte"), "the description has 3,000,000"),
        ((TASK, "-o", "x", "--checkpoint", "nope"), "checkpoint 'nope' not found"),
        ((TASK, "-o", "x", "--checkpoint", "public"), "public: is a doc_to_lora network, which"),
        ((TASK, "-o", "by-gte", "--checkpoint", "by-gte"), "by-gte exists and was not"),
        (
            (TASK, "-o", "x", "--checkpoint", "by-gte", "--embedder", "tiny-org/mistral-tiny"),
            "tiny-org/mistral-tiny: embedders of type 'mistral' are not supported",
        ),
        (
            (TASK, "-o", "x", "--checkpoint", "by-base", "--embedder", "tiny-org/gte-tiny"),
            "by-base: its base embeds descriptions, so there is no other embedder",
        ),
        ((TASK, "-o", "x", "--checkpoint", "narrow"), "tiny-org/gte-tiny: embeddings are 32 wide"),
        ((TASK, "-o", "x", "--checkpoint", "shallow"), "tiny-org/mistral-tiny: has 3 layers, the"),
    ],
)
def test_what_cannot_be_made_is_one_line(
    place: Path, command: Command, arguments: tuple[str, ...], message: str
) -> None:
    tiny.write_doc_to_lora(place / "public", "mistral")
    encoder = "tiny-org/gte-tiny"
    tiny.write_text_to_lora(place / "narrow", "mistral", encoder, embedding_size=31)
    tiny.write_text_to_lora(place / "shallow", "mistral", encoder, n_layers=2)
    done = command.t2l("make", *arguments, "--offline")
    assert (done.code, done.out) == (1, "")
    first, *rest = done.err.splitlines()
    assert first.startswith(f"error: {message}")
    assert len(rest) <= 1
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "arguments", [(TASK, "--checkpoint", "by-gte"), ("-o", "x", "--checkpoint", "by-gte"), (TASK,)]
)
def test_options_that_clash_are_wrong_usage(command: Command, arguments: tuple[str, ...]) -> None:
    assert command.t2l("make", *arguments).code == 2


@pytest.mark.usefixtures("place")
def test_the_card_says_which_prompt_the_network_for_llama_was_trained_on() -> None:
    network = TaskCompiler(TaskCompileOptions("by-gte", offline=True)).network
    said = {
        base: "without it"
        in replace(network, config=replace(network.config, base=base)).explain_prompt(8)
        for base in ("meta-llama/Llama-3.1-8B-Instruct", "google/gemma-2-2b-it")
    }
    assert list(said.values()) == [True, False]
