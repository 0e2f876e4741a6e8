"""The whole way, through the command line: a text document in, an adapter folder out.

Expected values were recorded from the original project's code; see tests/data/goldens/README.md.
"""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from d2l.adapters.peft_folder import read_adapter
from d2l.api.compiler import Compiler
from d2l.bases.models import BaseFiles
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.seats.config import read_config
from d2l.readers.parsing import Section
from tests.command import Command
from tests.hypernets.loading import COMMITTED, NAMES, SIBLING
from tests.tools.seat_goldens import CONFIG

SEATS = Path(__file__).parent / "data" / "seats"
EXACT = 2e-5  # fp32 sums in another order than the original's
LOGITS = 5e-4  # the same, amplified by a random-weight base


def find_golden(name: str) -> Path:
    """Root of the goldens that holds `name` with its documents; skips where there is none."""
    for root in (SIBLING, COMMITTED):
        if (root / "d2l" / name / "info.json").is_file():
            return root
    pytest.skip(f"no golden {name} beside the repository")


def document_of(text: str) -> Document:
    return Document("golden.txt", "text", (Section(text),), "0" * 64, len(text))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["one", "three"])
def test_golden_document_gives_the_recorded_adapter(
    name: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    root = find_golden(name)
    folder = root / "d2l" / name
    info = json.loads((folder / "info.json").read_text("utf-8"))
    expected = load_file(folder / "expected.safetensors")
    source, out = tmp_path / "document.txt", tmp_path / "document.lora"
    source.write_text(info["cases"][case]["documents"][0], "utf-8")
    monkeypatch.chdir(root)  # checkpoints name their base by a relative path
    limit = str(info["max_ctx_chunk_len"]) if case == "three" else "0x7fffffff"
    words = ("compile", source, "-o", out, "--checkpoint", folder, "--dtype", "fp32")
    assert command(*words, "--chunk-tokens", int(limit, 0)).code == 0
    lengths = [chunk["n_tokens"] for chunk in read_json(out / "d2l.json")["chunks"]]
    assert lengths == info["cases"][case]["chunk_lengths"][0]
    compare_factors(out, expected, case, info)
    logits = peft_logits(root / info["base_model"], out, folder)
    assert (logits - expected[f"{case}.logits"]).abs().max() < LOGITS


@pytest.mark.parametrize("name", NAMES)
def test_golden_chunks_have_their_token_ids(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = find_golden(name)
    folder = root / "d2l" / name
    info = json.loads((folder / "info.json").read_text("utf-8"))
    inputs = load_file(folder / "inputs.safetensors")
    monkeypatch.chdir(root)
    for case, limit in (("one", 1 << 20), ("three", info["max_ctx_chunk_len"])):
        options = CompileOptions(checkpoint=str(folder), chunk_tokens=limit)
        document = document_of(info["cases"][case]["documents"][0])
        plan = Compiler(options).plan(Intake((document,)))
        read = inputs[f"{case}.ctx_ids"], inputs[f"{case}.ctx_attn_mask"].bool()
        rows = zip(plan.chunks, *read, strict=True)
        for chunk, ids, mask in rows:
            assert list(chunk.token_ids) == ids[mask].tolist()


@pytest.mark.slow
def test_a_page_in_seats_answers_as_recorded_through_both_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, smollm2_files: BaseFiles
) -> None:
    assert smollm2_files  # only asks for the base
    case = read_json(SEATS / "cases.json")["page"]
    recorded = read_json(SEATS / "shipped.json")["page"]
    source, out = tmp_path / "page.txt", tmp_path / "page.lora"
    source.write_text(case["text"], "utf-8")
    words = ("compile", source, "-o", out, "--checkpoint", "smollm2-135m", "--no-parts")
    assert command(*words, "--dtype", "fp32", "--offline").code == 0
    provenance = read_json(out / "d2l.json")
    assert len(provenance["prompt"]["opening"]["ids"]) == recorded["seats"] + 1  # and the sink
    opening = len(read_config(CONFIG).read_opening)
    lengths = [chunk["n_tokens"] - opening for chunk in provenance["chunks"]]
    assert lengths == [len(chunk["token_ids"]) for chunk in case["chunks"]]
    questions = "\n".join(q["question"] for q in case["questions"])
    monkeypatch.setattr("sys.stdin", io.StringIO(questions))
    asked = command("ask", out, "--max-tokens", 20, "--json", "--offline")
    answers = [row["adapter"] for row in json.loads(asked.out)["answers"]]
    wanted = [q["answer"] for q in recorded["questions"]]
    same = sum(got == answer for got, answer in zip(answers, wanted, strict=True))
    assert same >= len(wanted) - 1  # recorded before the weights had 8 bits


def compare_factors(
    out: Path, expected: dict[str, torch.Tensor], case: str, info: dict[str, Any]
) -> None:
    """A as recorded; B as recorded times alpha, which the file holds folded in."""
    weights = read_adapter(out)
    modules = info["config"]["target_modules"]
    use_bias = info["config"]["hypernet"]["use_bias"]
    for module in modules:
        for letter, pick in (("A", lambda f: f.a), ("B", lambda f: f.b.T / info["scaling"])):
            merged = expected[f"{case}.merged.{module}.{letter}"][0]  # (layers, rank, d)
            if not use_bias:  # the original pads what it does not have with zeros
                merged = merged[:, : -info["config"]["r"]]
            for layer, wanted in enumerate(merged):
                name = next(n for n in weights.factors if f".{layer}." in n and n.endswith(module))
                assert (pick(weights.factors[name]) - wanted).abs().max() < EXACT


def peft_logits(base: Path, adapter: Path, golden: Path) -> torch.Tensor:
    """Logits of the golden's query through PEFT."""
    query = load_file(golden / "inputs.safetensors")["query_ids"]
    with torch.no_grad():
        return load_with_peft(base, adapter)(query).logits


def load_with_peft(base: Path, adapter: Path) -> Any:
    """A base with an adapter by PEFT, which must load the folder without a warning."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, attn_implementation="eager", dtype=torch.float32
    )
    with warnings.catch_warnings():
        # PEFT still asks by the old name of what transformers 5 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        return peft.PeftModel.from_pretrained(model, str(adapter)).eval()


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))
