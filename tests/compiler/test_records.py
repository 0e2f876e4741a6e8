import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from d2l import __version__
from d2l.api.compiler import Compiler
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.hypernets.options import CompileOptions
from d2l.readers.parsing import Section
from tests import tiny
from tests.compiled import (
    KINDS,
    LAST_PAGE,
    Compile,
    Compiled,
    compile_tiny,
    family_of,
    make_document,
    read_files,
    write_files,
)
from tests.processes import run_python

pytestmark = pytest.mark.usefixtures("one_thread")


def read_record(done: Compiled) -> dict[str, Any]:
    return json.loads((done.adapter / "d2l.json").read_text("utf-8"))


def read_deltas(done: Compiled, ranks: slice = slice(None)) -> dict[str, torch.Tensor]:
    """Dense deltas in float64 by module, of some ranks, straight from the adapter's file."""
    tensors = load_file(done.adapter / "adapter_model.safetensors")
    deltas = {}
    for name, a in tensors.items():
        if ".lora_A." in name:
            b = tensors[name.replace(".lora_A.", ".lora_B.")]
            module = name.removeprefix("base_model.model.").split(".lora_A.")[0]
            deltas[module] = b[:, ranks].double() @ a[ranks].double()
    return deltas


def read_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- what went in -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_tool_checkpoint_base_and_inputs_are_recorded(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    record = read_record(done)
    assert record["format"] == 3
    assert record["tool"] == {"name": "d2l", "version": __version__}
    assert record["checkpoint"] == {
        "name": str(done.checkpoint),
        "network": "seats" if kind == "seats" else "doc_to_lora",
        "sha256": read_digest(done.checkpoint / "model.safetensors"),
    }
    assert record["base"] == {
        "name": tiny.base_name(family_of(kind)),
        "sha256": read_digest(done.base / "model.safetensors"),
    }
    assert record["inputs"] == [
        {
            "name": "handbook.txt",
            "format": "text",
            "sha256": "0" * 64,
            "size_bytes": len(tiny.DOCUMENT) + len(LAST_PAGE),
            "notes": [],
        }
    ]
    assert record["skipped"] == []
    assert record["warnings"] == list(done.plan.warnings)


def test_options_and_skipped_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    base, checkpoint = write_files(tmp_path, "qwen3")
    options = CompileOptions(
        checkpoint=str(checkpoint),
        base=str(base),
        device="cpu",
        merge="average",
        scale=0.5,
        bias_scale=2.0,
        chunk_tokens=40,
        dtype="fp16",
        max_rank=4,
    )
    document = Document("a.pdf", "pdf", (Section("Short."),), "1" * 64, 6, ("one of two pages",))
    skipped = (("b.pdf", "b.pdf: it is empty"), ("c.txt", "c.txt: no text"))
    adapter = Compiler(options)(Intake((document,), skipped))
    out = adapter.save_pretrained(tmp_path / "a.lora")
    record = json.loads((out / "d2l.json").read_text("utf-8"))
    assert record["options"] == {
        "merge": "average",
        "scale": 0.5,
        "bias_scale": 2.0,
        "max_rank": 4,
        "chunk_tokens": 40,
        "tokens_per_seat": None,
        "base_dtype": "fp32",
        "dtype": "fp16",
    }
    assert record["inputs"][0]["notes"] == ["one of two pages"]
    reasons = {"b.pdf": "b.pdf: it is empty", "c.txt": "c.txt: no text"}
    assert {row["name"]: row["reason"] for row in record["skipped"]} == reasons


# ---- chunks, ranks, pages -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_slices_lie_side_by_side_and_sum_up_to_the_rank(kind: str, compiled: Compile) -> None:
    record = read_record(compiled(kind))
    spans = [chunk["ranks"] for chunk in record["chunks"]] + [record["bias_ranks"]]
    assert spans[0][0] == 0
    assert spans[-1][1] == record.get("seats", record["rank"])
    assert record["rank"] == record["rank_before_max_rank"]
    assert all(left[1] == right[0] for left, right in pairwise(spans))
    n_bias = 0 if kind == "seats" else 2
    assert spans[-1][1] - spans[-1][0] == n_bias
    assert [chunk["index"] for chunk in record["chunks"]] == list(range(len(spans) - 1))
    assert {chunk["document"] for chunk in record["chunks"]} == {"handbook.txt"}


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_name_the_pages_that_their_tokens_come_from(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    record = read_record(done)
    decode = tiny.load_tokenizer().decode
    assert len(record["chunks"]) > 1
    for chunk, planned in zip(record["chunks"], done.plan.chunks, strict=True):
        assert chunk["n_tokens"] == len(planned.token_ids)
        text = decode(list(planned.token_ids))
        pages = [
            number
            for number, words in ((1, ("filter", "copper", "lantern", "keeper")), (2, ("tower",)))
            if any(word in text for word in words)
        ]
        assert chunk["source"] == "p. " + "-".join(map(str, pages))


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_name_the_characters_that_they_are_made_of(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    (document,) = done.plan.documents
    spans = [chunk["characters"] for chunk in read_record(done)["chunks"]]
    assert (spans[0][0], spans[-1][1]) == (0, len(document.text))
    between = "".join(document.text[left[1] : right[0]] for left, right in pairwise(spans))
    assert not between.strip()
    for (start, stop), chunk in zip(spans, done.plan.chunks, strict=True):
        words = tiny.load_tokenizer().decode(list(chunk.token_ids)).split()
        assert " ".join(document.text[start:stop].split()) in " ".join(words)


def test_learned_ranks_are_the_same_for_every_document_and_others_are_not(
    tmp_path: Path, compiled: Compile
) -> None:
    done = compiled("qwen3")
    other = Document("b.txt", "text", (Section("Something else entirely."),), "2" * 64, 24)
    again = compile_tiny(tmp_path, "qwen3", other)
    of_one, of_other = (read_record(run)["bias_ranks"] for run in (done, again))
    assert (of_one, of_other) == ([4, 6], [2, 4])
    learned = read_deltas(done, slice(*of_one))
    torch.testing.assert_close(learned, read_deltas(again, slice(*of_other)))
    first = read_deltas(done, slice(0, 2))
    for name, delta in read_deltas(again, slice(0, 2)).items():
        assert (delta - first[name]).abs().max() > 0.05 * first[name].abs().max()


def test_a_network_without_a_learned_part_has_an_empty_slice(tmp_path: Path) -> None:
    tiny.write_doc_to_lora(tmp_path / "checkpoint", "qwen3", use_bias=False)
    record = read_record(compile_tiny(tmp_path, "qwen3"))
    assert (record["rank"], record["bias_ranks"]) == (4, [4, 4])


def test_ranks_of_several_documents_run_on(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "llama", make_document("a.txt"), make_document("b.txt"))
    record = read_record(done)
    rows = [(chunk["document"], chunk["ranks"]) for chunk in record["chunks"]]
    assert rows == [("a.txt", [0, 2]), ("a.txt", [2, 4]), ("b.txt", [4, 6]), ("b.txt", [6, 8])]
    assert record["bias_ranks"] == [8, 10]


def test_averaged_seats_belong_to_all_chunks(tmp_path: Path) -> None:
    record = read_record(compile_tiny(tmp_path, "seats", merge="average"))
    assert [chunk["ranks"] for chunk in record["chunks"]] == [[0, record["rank"]]] * 4


def test_a_chunk_without_a_seat_of_its_own_has_an_empty_slice(tmp_path: Path) -> None:
    """One short sentence among long ones: its share of the seats rounds to none."""
    sentence = "The pump stands in the harbor and the valve of copper is in the meadow"
    texts = [f"{sentence} {number}." for number in range(12)]
    texts.insert(5, "Ask.")
    document = Document("a.txt", "text", (Section("\n".join(texts)),), "3" * 64, 900)
    done = compile_tiny(tmp_path, "seats", document, chunk_tokens=22)
    chunks = read_record(done)["chunks"]
    spans = [chunk["ranks"] for chunk in chunks]
    assert [end - start for start, end in spans] == [chunk.rank for chunk in done.plan.chunks]
    empty = [n for n, chunk in enumerate(chunks) if chunk["ranks"][0] == chunk["ranks"][1]]
    assert empty


def test_compression_mixes_the_slices_so_no_ranks_are_named(tmp_path: Path) -> None:
    cut = compile_tiny(tmp_path, "llama", max_rank=3)
    record = read_record(cut)
    assert [chunk["ranks"] for chunk in record["chunks"]] == [None, None]
    assert record["bias_ranks"] is None
    assert (record["rank"], record["rank_before_max_rank"]) == (3, 6)
    assert list(record["merge_error"]) == sorted(read_deltas(cut))


# ---- the prompt ---------------------------------------------------------------------------------


def test_the_opening_is_recorded_with_text_ids_and_its_seats(compiled: Compile) -> None:
    record = read_record(compiled("seats"))
    text = f"<|im_start|>system\n{tiny.SYSTEM}" + "".join(f" {word}" for word in tiny.WORDS)
    assert record["prompt"] == {
        "chat_template": "chat_template.jinja",
        "turns": "user",
        "opening": {
            "ids": tiny.encode(text),
            "text": text,
            "seats": list(range(1, record["seats"] + 1)),
        },
    }


def test_the_public_networks_answer_to_the_bases_own_prompt(compiled: Compile) -> None:
    prompt = read_record(compiled("gemma2"))["prompt"]
    assert prompt == {"chat_template": "base", "turns": "user", "opening": None}


# ---- the same bytes -----------------------------------------------------------------------------

COMPILE_BOTH = """
from pathlib import Path
from d2l.api.compiler import Compiler
from d2l.hypernets.options import CompileOptions
from d2l.documents.intake import Intake
from d2l.documents.document import Source
from d2l.documents.read import read_document
document = read_document(Source("handbook.txt", Path("handbook.txt")))
for kind, base in (("qwen3", "qwen3-tiny"), ("seats", "llama-tiny")):
    checkpoint, base = f"{kind}/checkpoint", f"{kind}/tiny-org/{base}"
    options = CompileOptions(checkpoint, base, device="cpu", offline=True)
    Compiler(options)(document).save_pretrained(Path(kind, "tiny.lora"))
"""


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time in another process, with another seed of hashes: another order of sets."""
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("here", "elsewhere"):
        for kind in ("qwen3", "seats"):
            write_files(tmp_path / name / kind, kind)
        (tmp_path / name / "handbook.txt").write_text(tiny.DOCUMENT, "utf-8")
    monkeypatch.chdir(tmp_path / "here")
    exec(COMPILE_BOTH, {})
    done = run_python("-c", COMPILE_BOTH, folder=tmp_path / "elsewhere", PYTHONHASHSEED="77")
    assert done.returncode == 0, done.stderr
    files = ["README.md", "adapter_config.json", "adapter_model.safetensors", "d2l.json"]
    files.append("d2l.lock")
    of_seats = ["chat_template.jinja", "memory.safetensors", "tokenizer.json"]
    of_seats += ["tokenizer_config.json", "parts.json", "parts.safetensors"]
    for kind, expected in (("qwen3", [*files, "text.json"]), ("seats", files + of_seats)):
        first = read_files(tmp_path / "here" / kind / "tiny.lora")
        assert first == read_files(tmp_path / "elsewhere" / kind / "tiny.lora")
        assert sorted(first) == sorted(expected)
        assert not any(str(tmp_path).encode() in data for data in first.values())


def test_no_time_is_recorded(compiled: Compile) -> None:
    for kind in ("llama", "seats"):
        text = (compiled(kind).adapter / "d2l.json").read_text("utf-8")
        assert not re.search(r"\d\d:\d\d|20\d\d-|\b1[67]\d{8}\b", text)
        assert sorted(json.loads(text)) == list(json.loads(text))
