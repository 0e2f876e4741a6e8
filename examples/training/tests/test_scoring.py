"""Answers that are measured are those of `d2l ask`, and their likelihoods those of the models."""

import pytest
import torch

from d2l import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.datasets.silence import SILENCE
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.parts.kept import PartOptions
from d2l_lab.scoring import Query, answer_adapted, answer_alone
from tests import tiny
from tests.asking import read_logits
from tests.compiled import Compile, Compiled, compile_tiny, make_dense, write_prompt

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTION = "How often is the filter rinsed?"
PAIRS = [
    (QUESTION, "14 days"),
    ("Where is the pump?", "harbor"),
    ("Which valve?", "the copper valve"),
]
OWN = "The lantern of the pump."
ALL_WORDS = tiny.SYSTEM + "".join(f" {word}" for word in tiny.WORDS)


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


def load(done: Compiled) -> AdaptedModel:
    return AdaptedModel.load(done.adapter, AskOptions(str(done.base), "cpu", 8, offline=True))


def score(model: object, prompt: str, answer: str) -> float:
    """NLL a token of an answer, by one pass over everything."""
    ids, wanted = tiny.encode(prompt), tiny.encode(answer)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids + wanted])).logits[0]  # type: ignore[operator]
    rows = logits.log_softmax(dim=-1)[len(ids) - 1 : -1]
    losses = [-float(row[token]) for row, token in zip(rows, wanted, strict=True)]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_likelihoods_are_those_of_the_merged_dense_model_and_of_the_base(
    kind: str, compiled: Compile
) -> None:
    done = compiled(kind)
    model = load(done)
    asked = [Query(question, tuple(tiny.encode(wanted))) for question, wanted in PAIRS]
    about = [one._replace(text=tiny.DOCUMENT) for one in asked]
    dense, plain = make_dense(kind, done.adapter), tiny.make_causal("llama")
    system = ALL_WORDS if kind == "seats" else tiny.SYSTEM
    for answers, expected, opening, text in (
        (answer_adapted(model, asked), dense, system, "{}"),
        (answer_alone(model, asked), plain, tiny.SYSTEM, "{}"),
        (answer_alone(model, about), plain, tiny.SYSTEM, tiny.DOCUMENT + "\n\n{}"),
        (answer_alone(model, about, system=OWN), plain, OWN, tiny.DOCUMENT + "\n\n{}"),
    ):
        for answer, (question, wanted) in zip(answers, PAIRS, strict=True):
            nll = score(expected, write_prompt(text.format(question), opening), wanted)
            assert -float(answer.log_probs.mean()) == pytest.approx(nll, abs=2e-4)


def test_a_system_text_is_read_before_the_questions_are_timed(compiled: Compile) -> None:
    model, rows = load(compiled("llama")), []
    for text in (tiny.DOCUMENT, "\n\nThe pump.", ""):
        asked = Query(QUESTION, (5,), text)
        (scored,) = answer_alone(model, [asked], max_tokens=3, system=OWN)
        prompt, _ = model.prompt_about(text, QUESTION, n_answer=3, system=OWN)
        with model.model.disable_adapter(), torch.inference_mode():
            logits = model.model(input_ids=torch.tensor([prompt])).logits[0, -1]
        expected = float(logits.log_softmax(dim=-1)[5])
        assert float(scored.log_probs) == pytest.approx(expected, abs=1e-4)
        assert scored.first_seconds is not None
        assert scored.first_seconds > 0
        rows.append(asked)
    together = answer_alone(model, rows, max_tokens=3)
    assert [row.first_seconds for row in together] == [None] * 3


def test_texts_that_are_cut_to_fit_into_the_prompt_are_counted(compiled: Compile) -> None:
    model = load(compiled("llama"))  # its window: 512 tokens
    long = answer_alone(model, [Query(QUESTION, (5,), tiny.DOCUMENT * 20)], max_tokens=2)
    assert long[0].n_cut > 0
    (short,) = answer_alone(model, [Query(QUESTION, (5,), tiny.DOCUMENT)], max_tokens=2)
    assert short.n_cut == 0


@pytest.mark.parametrize("parts", [PartOptions(), PartOptions(page="#1"), PartOptions(whole=True)])
def test_an_answer_is_that_of_ask_and_scores_follow_the_same_prompt(
    parts: PartOptions, asker: AdaptedModel
) -> None:
    turns, wanted = [{"role": "user", "content": QUESTION}], asker.encode("14 days")
    (scored,) = answer_adapted(asker, [Query(QUESTION, tuple(wanted), parts=parts)])
    logits = read_logits(asker, asker.read(turns, AskOptions(parts=parts)), wanted)
    expected = logits[-len(wanted) - 1 : -1].log_softmax(dim=-1)
    picked = expected.gather(1, torch.tensor(wanted)[:, None])[:, 0]
    torch.testing.assert_close(scored.log_probs, picked)
    answer = asker.answer(turns, options=AskOptions(max_new_tokens=6, parts=parts))
    assert scored.text == answer.text
    # The whole adapter reads no part; its answer is cited from the text all the same.
    assert scored.part == (None if parts.whole else answer.citations[0].index)


def test_a_question_without_a_word_of_the_document_gets_silence_and_a_likelihood(
    asker: AdaptedModel,
) -> None:
    (scored,) = answer_adapted(asker, [Query("Xyzzy qwv?", tuple(asker.encode("14")))])
    assert (scored.text, scored.part) == (SILENCE, None)
    assert bool(scored.log_probs.isfinite().all())
