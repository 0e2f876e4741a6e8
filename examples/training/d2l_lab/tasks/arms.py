"""Tasks → marks, arm by arm: with an adapter, by the base alone, with the task in its prompt.

All arms get the same inputs in the base's chat template. Answers are greedy, or the likeliest
label. The base is asked up to three times: with the input alone, with the description before it,
and with description and examples as turns before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from d2l import AdaptedModel
from d2l.datasets.tasks import Example, list_labels
from d2l.errors import TaskError
from d2l.evaluation.metrics import pick_evenly
from d2l.parts.kept import Turns
from d2l_lab.likelihood import GenerationSettings, score_answers
from d2l_lab.metrics import match_literally, rouge_l
from d2l_lab.task_files import Task

Encode = Callable[[str], Sequence[int]]

#: A task is short where half of its answers have at most so many words; only then can an answer
#: be expected to be exactly the reference.
SHORT_WORDS = 3
#: Longest example of a task, and longest answer, in tokens; longer examples are left out.
MAX_INPUT, MAX_TOKENS = 512, 64
_SPARE_TOKENS = 8  # of an answer, beyond the longest reference of its task
_BATCH = 8


@dataclass(frozen=True)
class AskedTask:
    """A task with the questions that are asked. `metric`: "choice" where the answer is one of
    `labels`, "em" for other short answers, else "rouge_l". `n_left_out` examples are too long."""

    name: str
    descriptions: tuple[str, ...]
    questions: tuple[Example, ...]
    metric: str
    n_left_out: int
    labels: tuple[str, ...] = ()

    def share_out(self, texts: Sequence[str]) -> list[str]:
        """Choose a description for each question. Questions of one description stand side by
        side, so that the beginning of their prompts is read once."""
        n = len(self.questions)
        return [texts[number * len(texts) // n] for number in range(n)]


@dataclass(frozen=True)
class TaskMark:
    """Score of an answer, from 0 to 1, and NLL of the first reference with its end token."""

    score: float
    nll: float


def choose_questions(
    task: Task, descriptions: Sequence[str], encode: Encode, limit: int
) -> AskedTask:
    """Choose examples of a task that are short enough, evenly from its beginning to its end.
    `encode` gives a text's ids. Raises TaskError if no example is short enough."""
    fit = [
        example
        for example in task.examples
        if len(encode(f"{example.input}\n{example.outputs[0]}")) <= MAX_INPUT
    ]
    if not fit:
        raise TaskError(
            f"task {task.name!r}: none of its {len(task.examples):,} examples has at most "
            f"{MAX_INPUT:,} tokens"
        )
    chosen, labels = pick_evenly(fit, limit), task.choices or tuple(list_labels(task.examples))
    odd = {question.outputs[0] for question in chosen} - set(labels) if labels else None
    if odd:
        raise TaskError(f"task {task.name!r}: {min(odd)!r} is none of its choices")
    n_words = median(len(example.outputs[0].split()) for example in chosen)
    metric = "em" if n_words <= SHORT_WORDS else "rouge_l"
    return AskedTask(
        task.name,
        tuple(descriptions),
        tuple(chosen),
        metric="choice" if labels else metric,
        n_left_out=len(task.examples) - len(fit),
        labels=labels,
    )


def ask_adapter(
    asker: AdaptedModel, task: AskedTask, questions: Sequence[Example]
) -> list[TaskMark]:
    """Ask with the adapter that the asker holds, the input alone in the prompt."""
    return _ask(asker, [asker.prompt(question.input) for question in questions], questions, task)


def ask_base(
    asker: AdaptedModel, task: AskedTask, shots: Sequence[Example] = ()
) -> dict[str, list[TaskMark]]:
    """Ask the base: without the description, with it, and with description and examples as turns
    of the chat. A task without a description or examples has fewer arms."""
    prompts = {"base": [asker.prompt_alone(question.input) for question in task.questions]}
    if task.descriptions:
        prompts["prompt"] = [
            asker.prompt_alone(f"{description}\n\n{question.input}")
            for description, question in zip(
                task.share_out(task.descriptions), task.questions, strict=True
            )
        ]
    if shots:
        described = zip(task.share_out(task.descriptions or [""]), task.questions, strict=True)
        prompts["examples"] = [
            asker.prompt_turns(make_turns(description, shots, question.input), alone=True)
            for description, question in described
        ]
    with asker.model.disable_adapter():
        return {arm: _ask(asker, ids, task.questions, task) for arm, ids in prompts.items()}


def make_turns(description: str, shots: Sequence[Example], last: str) -> Turns:
    """Make a chat: the description before the first input, and the input to answer last."""
    turns = list[dict[str, str]]()
    for shot in shots:
        turns += [
            {"role": "user", "content": shot.input},
            {"role": "assistant", "content": shot.outputs[0]},
        ]
    turns.append({"role": "user", "content": last})
    if description:
        turns[0]["content"] = f"{description}\n\n{turns[0]['content']}"
    return turns


def _ask(
    asker: AdaptedModel, prompts: Sequence[list[int]], questions: Sequence[Example], task: AskedTask
) -> list[TaskMark]:
    if task.labels:
        return _choose(asker, prompts, questions, task.labels)
    end = asker.end_token()
    answers = [[*asker.encode(question.outputs[0]), end] for question in questions]
    longest = max(len(asker.encode(question.outputs[0])) for question in task.questions)
    n_tokens = min(MAX_TOKENS, longest + _SPARE_TOKENS)
    settings = GenerationSettings(n_tokens, _BATCH, end=end, pad=end)
    score = match_literally if task.metric == "em" else rouge_l
    marks = []
    for question, (log_probs, ids) in zip(
        questions, score_answers(asker.model, prompts, answers, settings), strict=True
    ):
        answer = str(asker.base_tokenizer.decode(ids, skip_special_tokens=True)).strip()
        nll = -float(log_probs.mean())
        marks.append(TaskMark(float(score(answer, question.outputs)), nll))
    return marks


def _choose(
    asker: AdaptedModel,
    prompts: Sequence[list[int]],
    questions: Sequence[Example],
    labels: Sequence[str],
) -> list[TaskMark]:
    """Take the likeliest label with its end token, as a classifier does: 1 for a right one."""
    end, n = asker.end_token(), len(labels)
    ids = [[*asker.encode(label), end] for label in labels]
    every = [prompt for prompt in prompts for _ in labels]
    settings = GenerationSettings(0, _BATCH, end=end, pad=end)
    scored = score_answers(asker.model, every, ids * len(prompts), settings)
    marks = []
    for number, question in enumerate(questions):
        rows = [row for row, _ in scored[number * n : (number + 1) * n]]
        best = max(range(n), key=lambda label: float(rows[label].sum()))
        nll = -float(rows[labels.index(question.outputs[0])].mean())
        marks.append(TaskMark(float(match_literally(labels[best], question.outputs)), nll))
    return marks
