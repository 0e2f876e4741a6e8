"""Questions → marked answers, arm by arm: all in the same chat template, answered greedily."""

from collections.abc import Sequence

from d2l import AdaptedModel
from d2l.datasets.silence import FEW_WORDS, INSTRUCTION, SILENCE, is_silence
from d2l.evaluation.metrics import contains_answer, match_exactly, token_f1, write_plainly
from d2l.parts.kept import PartOptions
from d2l_lab.bench.answers import Arm, ScoredMark
from d2l_lab.bench.facts import mark_facts
from d2l_lab.questions import SHORT, Question
from d2l_lab.scoring import Query, ScoredAnswer, answer_adapted, answer_alone

_WHOLE = PartOptions(whole=True)


def ask_arm(
    asker: AdaptedModel,
    arm: Arm,
    questions: Sequence[Question],
    texts: Sequence[str] = (),
    parts: Sequence[int] = (),
) -> list[ScoredMark]:
    """Ask one arm.

    `texts`: of PROMPT, RAG and RAG4, the text in the prompt of each question. `parts`: of RIGHT,
    the index of each question's part. Raises AdapterError if the adapter cannot be asked.
    """
    end = asker.end_token()
    wanted = [(*asker.encode((*q.references, SILENCE)[0]), end) for q in questions]
    asked = [
        Query(q.text, ids, short=q.kind == SHORT) for q, ids in zip(questions, wanted, strict=True)
    ]
    if arm in (Arm.PROMPT, Arm.RAG, Arm.RAG4):  # other arms: the form of the network's own answers
        asked = [
            one._replace(question=one.question + FEW_WORDS * one.short, text=text)
            for one, text in zip(asked, texts, strict=True)
        ]
    if arm in (Arm.PROMPT, Arm.RAG, Arm.RAG4, Arm.BASE):
        system = INSTRUCTION if arm in (Arm.RAG, Arm.RAG4) else None
        answers = answer_alone(asker, asked, system=system)
    else:
        options = [PartOptions(count=1, page=f"#{part}") for part in parts]
        if arm is not Arm.RIGHT:
            options = [_WHOLE if arm is Arm.ADAPTER else PartOptions()] * len(asked)
        chosen = zip(asked, options, strict=True)
        answers = answer_adapted(asker, [one._replace(parts=of) for one, of in chosen])
    return [mark_answer(*pair) for pair in zip(answers, questions, strict=True)]


def mark_answer(answer: ScoredAnswer, question: Question) -> ScoredMark:
    """Mark an answer; its log-probabilities are those of the first reference and its end."""
    said, references = write_plainly(answer.text), [write_plainly(r) for r in question.references]
    contained, silent, wrong = float(contains_answer(said, references)), is_silence(said), False
    if question.kind != SHORT:
        contained, silent, wrong = mark_facts(answer.text, question)
    return ScoredMark(
        text=answer.text,
        contained=contained,
        em=float(match_exactly(said, references)),
        f1=token_f1(said, references),
        nll=-float(answer.log_probs.mean()),
        silent=silent,
        part=answer.part,
        n_cut=answer.n_cut,
        wrong=wrong,
        first_seconds=answer.first_seconds,
    )
