"""Adapters that version 0.1.0 wrote load, answer, and are edited, merged and exported as before."""

import json
import shutil
from pathlib import Path

import peft
import pytest
import transformers

import d2l
from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraWeights
from d2l.runtimes.gguf import GgufBase
from tests import tiny
from tests.command import Command
from tests.compiled import PEFT_DEPRECATION
from tests.gguf_adapters import read_gguf

WRITTEN = Path(__file__).parent / "data" / "v0.1.0"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text("utf-8"))
NAMES = sorted(path.stem for path in WRITTEN.glob("*.lora"))
QUESTION = "Where is the pump?"
BASE = Path("tiny-org", "llama-tiny")


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    """The folder in which 0.1.0 ran: its adapters, and the base and networks that it used."""
    tiny.write_base(working_folder / BASE, "llama")
    tiny.write_seats(working_folder / "seats", repeats=3)
    tiny.write_doc_to_lora(working_folder / "docs", "llama")
    (working_folder / "note.txt").write_text(f"{tiny.DOCUMENT}\n")
    for name in NAMES:
        shutil.copytree(WRITTEN / f"{name}.lora", working_folder / f"{name}.lora")
    return working_folder


def ask(command: Command, name: str) -> str:
    options = ("--max-tokens", "4", "--json", "--offline")
    done = command("ask", f"{name}.lora", QUESTION, *options)
    assert done.code == 0, done.err
    return json.loads(done.out)["answers"][0]["adapter"]


def norms_of(weights: LoraWeights) -> dict[str, float]:
    """Frobenius norm of the delta of every module."""
    return {
        name: float((weights.scale * factors.b.double() @ factors.a.double()).norm())
        for name, factors in weights.factors.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_they_are_inspected_and_checked(command: Command, name: str) -> None:
    shown = command("inspect", f"{name}.lora")
    assert (shown.code, shown.err) == (0, "")
    assert "d2l 0.1.0" in shown.out
    checked = command("check", f"{name}.lora", "--runtime", "peft", "--offline")
    assert (checked.code, checked.err) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_they_answer_as_they_did(command: Command, name: str) -> None:
    assert ask(command, name) == EXPECTED["answers"][name]


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
@pytest.mark.parametrize("name", NAMES)
def test_they_load_with_peft_and_from_python(name: str) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(BASE)
    assert peft.PeftModel.from_pretrained(model, f"{name}.lora")
    adapter = d2l.Adapter.from_pretrained(f"{name}.lora")
    assert adapter.provenance is not None
    assert adapter.provenance.tool.version == "0.1.0"


@pytest.mark.parametrize("kind", ["docs", "seats"])
def test_they_are_edited_as_they_were(command: Command, kind: str) -> None:
    arguments = (f"{kind}-note.lora", "--drop", "note.txt:#0", "-o", f"{kind}-edited.lora")
    done = command("edit", *arguments, "--offline")
    assert (done.code, done.err) == (0, "")
    expected = EXPECTED["norms"][f"{kind}-edited"]
    assert norms_of(read_adapter(Path(f"{kind}-edited.lora"))) == pytest.approx(expected, rel=1e-3)
    assert ask(command, f"{kind}-edited") == EXPECTED["answers"][f"{kind}-edited"]


@pytest.mark.parametrize("kind", ["docs", "seats"])
def test_they_are_merged_as_they_were(command: Command, kind: str) -> None:
    pair = (f"{kind}-note.lora", f"{kind}-tower.lora")
    done = command("merge", *pair, "-o", f"{kind}-merged.lora", "--offline")
    assert done.code == 0, done.err
    expected = EXPECTED["norms"][f"{kind}-merged"]
    # In bf16: of a seat each then, of an output each now.
    assert norms_of(read_adapter(Path(f"{kind}-merged.lora"))) == pytest.approx(expected, rel=2e-3)
    assert ask(command, f"{kind}-merged") == EXPECTED["answers"][f"{kind}-merged"]


@pytest.mark.parametrize("name", NAMES)
def test_they_are_exported(command: Command, name: str) -> None:
    done = command("export", f"{name}.lora", "--to", "gguf", "-o", "adapter.gguf", "--offline")
    assert done.code == 0, done.err
    base = GgufBase("llama", tiny.N_LAYERS, n_heads=4, n_kv_heads=2, permutes=True)
    read = read_gguf(Path("adapter.gguf"), base)
    assert norms_of(read) == pytest.approx(norms_of(read_adapter(Path(f"{name}.lora"))), rel=1e-6)
