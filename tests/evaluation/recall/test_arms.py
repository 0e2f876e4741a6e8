import pytest
import torch

from d2l.datasets.questions import Question
from d2l.evaluation.recall.arms import Arms, Gathered
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from tests import tiny
from tests.compiled import Compile, Compiled, make_dense, write_prompt

pytestmark = pytest.mark.usefixtures("one_thread")

N_TOKENS = 8
ALL_WORDS = tiny.SYSTEM + "".join(f" {word}" for word in tiny.WORDS)
QUESTIONS = [
    Question("How often is the filter rinsed?", ("14 days", "every 14 days")),
    Question("Where is the pump?", ("harbor",)),
    Question("Which valve?", ("the copper valve",)),
]


def load(done: Compiled) -> AdaptedModel:
    options = AskOptions(base=str(done.base), device="cpu", max_new_tokens=N_TOKENS, offline=True)
    return AdaptedModel.load(done.adapter, options)


def score(model: object, prompt: str, answer: str) -> tuple[float, float]:
    """NLL a token of an answer with its end token, and without, by one pass over everything."""
    ids, wanted = tiny.encode(prompt), tiny.encode(answer + "<|im_end|>")
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids + wanted])).logits[0]  # type: ignore[operator]
    rows = logits.log_softmax(dim=-1)[len(ids) - 1 : -1]
    losses = [-float(row[token]) for row, token in zip(rows, wanted, strict=True)]
    return sum(losses) / len(losses), sum(losses[:-1]) / (len(losses) - 1)


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_likelihoods_are_those_of_the_merged_dense_model_and_of_the_base(
    kind: str, compiled: Compile
) -> None:
    done = compiled(kind)
    gathered = Gathered()
    Arms(batch=2).ask_all(load(done), QUESTIONS, tiny.DOCUMENT, gathered)
    dense, plain = make_dense(kind, done.adapter), tiny.make_causal("llama")
    system = ALL_WORDS if kind == "seats" else tiny.SYSTEM
    outcomes = {
        "adapter": (gathered.adapter, dense, system, "{}"),
        "prompt": (gathered.prompt, plain, tiny.SYSTEM, tiny.DOCUMENT + "\n\n{}"),
        "base": (gathered.base, plain, tiny.SYSTEM, "{}"),
    }
    for arm, (marks, model, opening, text) in outcomes.items():
        for mark, question in zip(marks, QUESTIONS, strict=True):
            prompt = write_prompt(text.format(question.text), opening)
            expected = score(model, prompt, question.references[0])
            found = (mark.nll, mark.nll_without_end)
            assert found == pytest.approx(expected, abs=2e-4), (arm, question)


def test_greedy_answers_are_marked_against_all_references(compiled: Compile) -> None:
    asker = load(compiled("llama"))
    said = asker.ask(QUESTIONS[0].text)
    words = said.split()
    assert len(words) > 1
    questions = [
        Question(QUESTIONS[0].text, ("nothing", said)),
        Question(QUESTIONS[0].text, ("nothing", words[0])),
        Question(QUESTIONS[0].text, ("nothing",)),
    ]
    whole, part, none = Arms().ask_adapter(asker, questions)
    assert (whole.contained, whole.em, whole.f1) == (1.0, 1.0, 1.0)
    assert (part.contained, part.em) == (1.0, 0.0)
    assert 0 < part.f1 < 1
    assert (none.contained, none.em, none.f1) == (0.0, 0.0, 0.0)


def test_documents_that_are_cut_to_fit_into_the_prompt_are_counted(compiled: Compile) -> None:
    asker, gathered, arms = load(compiled("llama")), Gathered(), Arms()
    arms.ask_all(asker, QUESTIONS[:2], tiny.DOCUMENT * 9, gathered)  # window: 512 tokens
    assert (len(gathered.prompt), gathered.n_cut) == (2, 2)
    arms.ask_all(asker, QUESTIONS[:1], tiny.DOCUMENT, gathered)
    assert (len(gathered.prompt), gathered.n_cut) == (3, 2)
    arms.ask_all(asker, QUESTIONS[:1], None, gathered)
    assert (len(gathered.adapter), len(gathered.base), len(gathered.prompt)) == (4, 4, 3)


def test_the_bases_own_answers_are_made_once(compiled: Compile) -> None:
    asker, arms = load(compiled("llama")), Arms()
    first = arms.ask_alone(asker, QUESTIONS[:2])
    calls = []
    asker.model.register_forward_pre_hook(lambda *_: calls.append(1))
    asker.model.get_base_model().model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert arms.ask_alone(asker, [QUESTIONS[1], QUESTIONS[0], QUESTIONS[1]]) == [
        first[1],
        first[0],
        first[1],
    ]
    assert not calls
    arms.ask_alone(asker, QUESTIONS)
    assert calls
