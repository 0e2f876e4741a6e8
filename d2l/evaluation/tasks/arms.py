"""Tasks → marks, arm by arm: with an adapter, by the base alone, with the task in its prompt.

The same inputs in the base's chat template, answered greedily. Without an adapter the base is
asked three times: the input alone, the description before it, and solved examples before both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from d2l.datasets.tasks import Example, Task
from d2l.errors import TaskError
from d2l.evaluation.metrics import match_literally, rouge_l
from d2l.evaluation.sampling import pick_evenly
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import GenerationSettings, score_answers
from d2l.inference.prompt_styles import Turns

Encode = Callable[[str], Sequence[int]]

#: What is asked without an adapter, and what of the task stands in the prompt.
PROMPTS = {
    "base": "the input alone",
    "prompt": "the description and the input",
    "examples": "the description, solved examples and the input",
}
#: A task is short where half of its answers have at most so many words; only then can an answer
#: be expected to be exactly the reference.
SHORT_WORDS = 3
_SPARE_TOKENS = 8  # of an answer, beyond the longest reference of its task


@dataclass(frozen=True)
class TaskOptions:
    """How answers are asked for: at most `limit` examples of a task, greedily, in batches.

    Examples of more than `max_input` tokens are left out, with their answer. `shots`: solved
    examples in the prompt. `compare`: whether the base is asked, too.
    """

    limit: int = 20
    max_tokens: int = 64
    max_input: int = 512
    batch: int = 8
    shots: int = 3
    compare: bool = True


@dataclass(frozen=True)
class AskedTask:
    """A task, what is asked of it, and what is shown in the prompt. `metric`: "em" for short
    answers, else "rouge_l"."""

    name: str
    descriptions: tuple[str, ...]
    questions: tuple[Example, ...]
    shots: tuple[Example, ...]
    metric: str
    n_left_out: int  # examples too long

    def spread(self, number: int, n_texts: int) -> int:
        """Which of so many descriptions goes with a question: each with as many, side by side, so
        that what their prompts begin with is read once."""
        return number * n_texts // len(self.questions)


@dataclass(frozen=True)
class TaskMark:
    """One answer: its score, from 0 to 1, and how unlikely the first reference was, in nats a
    token, the end token included."""

    score: float
    nll: float


def choose_questions(
    task: Task, descriptions: Sequence[str], encode: Encode, options: TaskOptions
) -> AskedTask:
    """Examples of a task that are short enough, evenly from its beginning to its end; what is
    shown is never asked. `encode` gives a text's ids. Raises TaskError where nothing is left."""
    fit = [example for example in task.examples if _fits(example, encode, options)]
    asked = pick_evenly(fit, options.limit)
    inputs = {example.input for example in asked}
    others = [example for example in (*task.shots, *fit) if example.input not in inputs]
    if not asked:
        raise TaskError(
            f"task {task.name!r}: none of its {len(task.examples):,} examples has at most "
            f"{options.max_input:,} tokens"
        )
    shots = [example for example in others if _fits(example, encode, options)]
    n_words = median(len(example.outputs[0].split()) for example in asked)
    return AskedTask(
        task.name,
        tuple(descriptions),
        tuple(asked),
        tuple(shots[: options.shots]),
        "em" if n_words <= SHORT_WORDS else "rouge_l",
        len(task.examples) - len(fit),
    )


def _fits(example: Example, encode: Encode, options: TaskOptions) -> bool:
    text = f"{example.input}\n{example.outputs[0]}"
    return len(encode(text)) <= options.max_input


def ask_adapter(
    asker: AdaptedModel, task: AskedTask, questions: Sequence[Example], options: TaskOptions
) -> list[TaskMark]:
    """With the adapter that the asker holds, the input alone in the prompt."""
    prompts = [asker.prompt(question.input) for question in questions]
    return _ask(asker, prompts, questions, task, options)


def ask_base(
    asker: AdaptedModel, task: AskedTask, options: TaskOptions
) -> dict[str, list[TaskMark]]:
    """By the base, with each of PROMPTS; without examples to show and without a description,
    what would show them is left out."""
    marks = {}
    for arm in PROMPTS:
        if (arm != "base" and not task.descriptions) or (arm == "examples" and not task.shots):
            continue
        prompts = [_write_prompt(asker, task, arm, n) for n in range(len(task.questions))]
        with asker.model.disable_adapter():
            marks[arm] = _ask(asker, prompts, task.questions, task, options)
    return marks


def _write_prompt(asker: AdaptedModel, task: AskedTask, arm: str, number: int) -> list[int]:
    """Ids of the base's prompt for one question."""
    asked = task.questions[number].input
    if arm == "base":
        return asker.prompt_alone(asked)
    description = task.descriptions[task.spread(number, len(task.descriptions))]
    shots = task.shots if arm == "examples" else ()
    inputs = [*(shot.input for shot in shots), asked]
    inputs[0] = f"{description}\n\n{inputs[0]}"
    turns: Turns = []
    for text, shot in zip(inputs, shots, strict=False):  # the last input is what is asked
        turns.append({"role": "user", "content": text})
        turns.append({"role": "assistant", "content": shot.outputs[0]})
    return asker.prompt_turns([*turns, {"role": "user", "content": inputs[-1]}], alone=True)


def _ask(
    asker: AdaptedModel,
    prompts: Sequence[list[int]],
    questions: Sequence[Example],
    task: AskedTask,
    options: TaskOptions,
) -> list[TaskMark]:
    end = asker.end_token()
    answers = [[*asker.encode(one.outputs[0]), end] for one in questions]
    longest = max(len(asker.encode(one.outputs[0])) for one in task.questions)
    n_tokens = min(options.max_tokens, longest + _SPARE_TOKENS)
    settings = GenerationSettings(n_tokens, options.batch, end=end, pad=end)
    score = match_literally if task.metric == "em" else rouge_l
    return [
        TaskMark(float(score(_decode(asker, one.answer), asked.outputs)), _nll(one.log_probs))
        for asked, one in zip(
            questions, score_answers(asker.model, prompts, answers, settings), strict=True
        )
    ]


def _nll(log_probs: Tensor) -> float:
    """Nats a token from log-probabilities (tokens,)."""
    return -float(log_probs.mean())


def _decode(asker: AdaptedModel, ids: Sequence[int]) -> str:
    return str(asker.base_tokenizer.decode(ids, skip_special_tokens=True)).strip()
