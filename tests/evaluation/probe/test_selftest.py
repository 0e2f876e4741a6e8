import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.errors import DocumentError
from d2l.evaluation.probe.selftest import SelfReport, probe_itself
from d2l.inference.options import AskOptions
from tests import tiny
from tests.compiled import Compiled, compile_tiny, generate, make_dense, write_prompt
from tests.documents.samples import make_pdf, pdf_page
from tests.loaded import change_weights

pytestmark = pytest.mark.usefixtures("one_thread")

#: (first half, second half) of what stands on each page; the third has no long sentence.
PAGES = (
    [
        ("Open the copper valve before", "the pressure falls below 3 bar."),
        ("The lantern in the meadow", "is lit by the keeper."),
    ],
    [("The pump in the harbor is", "as old as the copper valve.")],
    [("Ask the keeper.", "")],
)


@pytest.fixture(autouse=True)
def few_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two general prompts of our own: the time, not the measure, is the point here."""
    monkeypatch.setattr(
        "d2l.evaluation.harm.read_harm_prompts", lambda: ["Why?", "Count to three."]
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    root = tmp_path_factory.mktemp("selftest")
    path = root / "handbook.pdf"
    pages = [pdf_page([f"{given} {wanted}".strip() for given, wanted in page]) for page in PAGES]
    path.write_bytes(make_pdf(pages))
    return compile_tiny(root, "seats", read_document(Source(str(path), path)))


def probe(done: Compiled, adapter: Path | None = None, **changes: Any) -> SelfReport:
    asking = AskOptions(base=str(done.base), device="cpu", max_new_tokens=30, offline=True)
    given: dict[str, Any] = {"document": None} | changes
    return probe_itself(adapter or done.adapter, asking=asking, **given)


def score(model: Any, prompt: str, wanted: str) -> float:
    """NLL per token of a text after a prompt, by one pass of a model without PEFT."""
    before, after = tiny.encode(prompt), tiny.encode(wanted)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([before + after])).logits[0].double()
    log_probs = logits.log_softmax(-1)[len(before) - 1 : -1]
    return -float(log_probs[range(len(after)), after].mean())


def read_record(done: Compiled) -> dict[str, Any]:
    return json.loads((done.adapter / "d2l.json").read_text("utf-8"))


def read_system(done: Compiled) -> str:
    """System text that gives the adapter its opening: a word more for every seat."""
    n_words = read_record(done)["rank"] - len(tiny.encode(f"<|im_start|>system\n{tiny.SYSTEM}")) + 1
    return tiny.SYSTEM + "".join(f" {word}" for word in tiny.WORDS[:n_words])


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def test_gains_are_those_of_the_dense_models(done: Compiled) -> None:
    plain, dense = tiny.make_causal("llama"), make_dense("seats", done.adapter)
    test = probe(done).selftest
    alone, with_adapter = [], []
    for page in PAGES[:2]:
        for given, wanted in page:
            question = f"How does this go on? {given}"
            alone.append(score(plain, write_prompt(question), wanted))
            with_adapter.append(score(dense, write_prompt(question, read_system(done)), wanted))
    gains = [before - after for before, after in zip(alone, with_adapter, strict=True)]
    total = test.total
    assert (total.n, test.n_sentences) == (3, 3)
    assert total.base_nll == pytest.approx(mean(alone), abs=1e-4)  # fp32, batched
    assert total.adapter_nll == pytest.approx(mean(with_adapter), abs=1e-4)
    assert total.gain == pytest.approx(mean(gains), abs=1e-4)
    assert total.stderr == pytest.approx(torch.tensor(gains).std().item() / 3**0.5, abs=1e-4)
    assert [(row.place.name, row.gain.n) for row in test.places] == [
        ("p. 1", 2),
        ("p. 2", 1),
        ("p. 3", 0),
    ]
    assert [row.gain.gain for row in test.places] == [
        pytest.approx(mean(gains[:2]), abs=1e-4),
        pytest.approx(gains[2], abs=1e-4),
        None,
    ]
    worst = [one.gain for one in test.worst]
    assert worst == pytest.approx(sorted(gains), abs=1e-4)


def test_the_worst_passages_show_what_the_adapter_says(done: Compiled) -> None:
    dense = make_dense("seats", done.adapter)
    for one in probe(done).selftest.worst:
        prompt = write_prompt(f"How does this go on? {one.passage.given}", read_system(done))
        assert one.said == generate(dense, prompt, 30)


def test_places_of_a_format_without_pages_are_the_adapters_chunks(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    paragraphs = [f"# {n}\n\n{given} {wanted}" for n, (given, wanted) in enumerate(PAGES[0])]
    path.write_text("\n\n".join(paragraphs), "utf-8")
    done = compile_tiny(tmp_path, "seats", read_document(Source(str(path), path)), chunk_tokens=16)
    test, chunks = probe(done).selftest, read_record(done)["chunks"]
    assert len(chunks) > 1
    assert [row.place.chunk for row in test.places] == [chunk["index"] for chunk in chunks]
    assert [row.place.name for row in test.places] == [chunk["source"] for chunk in chunks]
    assert sum(row.gain.n for row in test.places) == 2


def test_an_adapter_that_does_nothing_gains_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(" ".join(f"{given} {wanted}" for given, wanted in PAGES[0]), "utf-8")
    done = compile_tiny(tmp_path, "qwen3", read_document(Source(str(path), path)))
    change_weights(done.adapter, lambda name, tensor: tensor * (".lora_A." in name))
    test = probe(done).selftest
    total = test.total
    assert (total.n, total.gain, total.stderr) == (2, 0.0, 0.0)
    assert [row.place.page for row in test.places] == [None]


def test_limits_bound_what_is_asked_and_the_rest_is_counted(
    done: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2l.evaluation.probe.selftest.LIMIT", 2)
    test = probe(done).selftest
    assert (test.total.n, test.n_sentences) == (2, 3)
    assert len(test.worst) == 2


def test_a_document_without_sentences_is_one_clear_line(done: Compiled, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Ask the keeper.", "utf-8")
    with pytest.raises(DocumentError) as caught:
        probe(done, document=str(tmp_path / "short.txt"))
    assert caught.value.message == (
        f"{tmp_path}/short.txt: has no sentence of 8 or more words, so it cannot be tested from "
        "itself"
    )
    assert caught.value.hint == "write questions and give them with --qa FILE"


def test_a_missing_document_is_said_before_any_weights_are_loaded(
    done: Compiled, tmp_path: Path
) -> None:
    adapter = shutil.copytree(done.adapter, tmp_path / "copy.lora")
    record = (adapter / "d2l.json").read_text("utf-8")
    (adapter / "d2l.json").write_text(record.replace("handbook.pdf", "gone.pdf"), "utf-8")
    asking = AskOptions(base=str(tmp_path / "no such base"), offline=True)
    with pytest.raises(DocumentError, match=r"gone\.pdf: no such file"):
        probe_itself(adapter, document=None, asking=asking)


def test_json_has_the_whole_outcome(done: Compiled) -> None:
    report = probe(done)
    test, values = report.selftest, report.to_json()
    assert list(values) == ["selftest", "harm"]
    assert values["harm"]["n"] == report.harm.n == 2
    found = values["selftest"]
    assert (found["n"], found["sentences"]) == (3, 3)
    assert found["gain"] == test.total.gain
    assert found["gain"] == pytest.approx(found["base_nll"] - found["adapter_nll"])
    name = str(done.root / "handbook.pdf")
    assert found["places"][2] == {
        "document": name, "name": "p. 3", "chunk": None, "page": 3, "n": 0,
        "base_nll": None, "adapter_nll": None, "gain": None, "stderr": None,
    }  # fmt: skip
    assert {(one["page"], one["given"], one["wanted"]) for one in found["worst"]} == {
        (page, *halves) for page, both in enumerate(PAGES[:2], start=1) for halves in both
    }
    assert json.loads(json.dumps(values)) == values
