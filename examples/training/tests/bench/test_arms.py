import pytest

from d2l import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.datasets.silence import INSTRUCTION, SILENCE
from d2l_lab.bench.answers import Arm
from d2l_lab.bench.arms import FEW_WORDS, ask_arm
from d2l_lab.questions import Question
from d2l_lab.scoring import Query, answer_alone
from tests import tiny
from tests.compiled import Compile

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTION = "How often is the filter rinsed?"


@pytest.fixture
def asker(compiled: Compile) -> AdaptedModel:
    done = compiled("llama")
    return AdaptedModel.load(done.adapter, AskOptions(str(done.base), "cpu", 8, offline=True))


def test_greedy_answers_are_marked_against_all_references(asker: AdaptedModel) -> None:
    said = asker.ask(QUESTION)
    words = said.split()
    assert len(words) > 1
    references = [("nothing", said), ("nothing", words[0]), ("nothing",), ()]
    questions = [Question(QUESTION, wanted) for wanted in references]
    whole, part, none, unanswerable = ask_arm(asker, Arm.ADAPTER, questions)
    assert (whole.contained, whole.em, whole.f1) == (1.0, 1.0, 1.0)
    assert (part.contained, part.em) == (1.0, 0.0)
    assert 0 < part.f1 < 1
    assert (none.contained, none.em, none.f1) == (0.0, 0.0, 0.0)
    assert (unanswerable.contained, unanswerable.silent) == (0.0, False)
    (refusal,) = ask_arm(asker, Arm.ADAPTER, [Question(QUESTION, (SILENCE,))])
    assert unanswerable.nll == pytest.approx(refusal.nll, abs=1e-4)


def test_a_how_to_question_is_marked_by_facts_and_asked_in_full(asker: AdaptedModel) -> None:
    wanted = (*asker.encode("Rinse it."), asker.end_token())
    texts = [f"{tiny.DOCUMENT} Really."]
    (scored,) = answer_alone(asker, [Query(QUESTION, wanted, texts[0])], system=INSTRUCTION)
    said = scored.text.split()[0]
    facts = (("zeppelin",), (said,))
    asked = Question(QUESTION, ("Rinse it.",), kind="howto", facts=facts, wrong=(said,))
    for arm in (Arm.RAG, Arm.RAG4):
        (marked,) = ask_arm(asker, arm, [asked], texts)
        assert (marked.text, marked.nll) == (scored.text, -float(scored.log_probs.mean()))
        assert (marked.contained, marked.wrong, marked.silent) == (0.5, True, False)
        assert marked.first_seconds is not None


def test_a_text_in_the_prompt_is_asked_for_a_few_words(asker: AdaptedModel) -> None:
    wanted = (*asker.encode("14 days"), asker.end_token())
    (marked,) = ask_arm(asker, Arm.PROMPT, [Question(QUESTION, ("14 days",))], [tiny.DOCUMENT])
    (scored,) = answer_alone(asker, [Query(QUESTION + FEW_WORDS, wanted, tiny.DOCUMENT)])
    assert (marked.text, marked.nll) == (scored.text, -float(scored.log_probs.mean()))
