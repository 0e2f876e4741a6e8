"""Adapters with parts are measured as `d2l ask` asks them."""

import json
from pathlib import Path

import pytest
import torch

from d2l.datasets.silence import SILENCE
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.evaluation.part_answers import answer_by_parts
from d2l.files.printable import printable
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.inference.parts.choose import PartOptions
from tests import tiny
from tests.command import Command
from tests.compiled import Compiled, compile_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTION = "How often is the filter rinsed?"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A seats adapter with parts, whose document lies beside it."""
    root = tmp_path_factory.mktemp("kept")
    path = root / "handbook.txt"
    path.write_text(tiny.DOCUMENT, "utf-8")
    return compile_tiny(root, "seats", read_document(Source(str(path), path)), parts=True)


@pytest.fixture(scope="module")
def asker(kept: Compiled) -> AdaptedModel:
    return AdaptedModel.load(kept.adapter, AskOptions(str(kept.base), "cpu", 6, offline=True))


@pytest.mark.parametrize("parts", [PartOptions(), PartOptions(page="#1"), PartOptions(whole=True)])
def test_an_answer_is_that_of_ask_and_scores_follow_the_same_prompt(
    parts: PartOptions, asker: AdaptedModel
) -> None:
    turns, wanted = [{"role": "user", "content": QUESTION}], asker.encode("14 days")
    log_probs, text = answer_by_parts(asker, QUESTION, wanted, parts)
    with asker.reading(turns, parts) as prompt, torch.inference_mode():
        causal, n_read = asker.model.get_base_model(), 0
        if prompt.cache is not None:
            n_read = prompt.cache.get_seq_length()
        ids = torch.tensor([[*prompt.ids, *wanted]])[:, n_read:]
        logits = causal(input_ids=ids, **asker.cache_argument(prompt.cache)).logits[0]
    expected = logits[-len(wanted) - 1 : -1].log_softmax(dim=-1)
    torch.testing.assert_close(log_probs, expected.gather(1, torch.tensor(wanted)[:, None])[:, 0])
    answer = asker.answer(turns, options=AskOptions(max_new_tokens=6, parts=parts)).text
    assert text == answer


def test_a_question_without_a_word_of_the_document_gets_silence_and_a_likelihood(
    asker: AdaptedModel,
) -> None:
    log_probs, text = answer_by_parts(asker, "Xyzzy qwv?", asker.encode("14"), PartOptions())
    assert text == SILENCE
    assert bool(log_probs.isfinite().all())


def test_probe_asks_parts_unless_the_one_memory_is_asked_for(
    kept: Compiled, command: Command, tmp_path: Path
) -> None:
    qa = tmp_path / "qa.jsonl"
    qa.write_text(json.dumps({"question": QUESTION, "answers": ["14 days"]}), "utf-8")
    options = ("--base", kept.base, "--device", "cpu", "--offline", "--no-harm", "--json")
    nlls = []
    for way in ((), ("--whole",)):
        asked = json.loads(command("probe", kept.adapter, "--qa", qa, *way, *options).out)
        own = json.loads(command("probe", kept.adapter, *way, *options).out)["selftest"]
        nlls.append((asked["rows"][0]["nll"], own["adapter_nll"]))
        answer = command("ask", kept.adapter, QUESTION, *way, *options[:5], "--max-tokens", 24)
        assert printable(asked["questions"][0]["said"]) == answer.out.strip()
    (part, own_part), (whole, own_whole) = nlls
    assert part != pytest.approx(whole, abs=1e-3)
    assert own_part != pytest.approx(own_whole, abs=1e-3)
