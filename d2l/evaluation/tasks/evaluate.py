"""Adapter or network + tasks → report: does the adapter do what its description says?

One base in memory. A network's adapters go the way of `t2l make`, into a temporary folder, and are
loaded from there by PEFT. Prints nothing.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d2l.api.task_compiler import TaskCompiler
from d2l.compiler.make import MakeOptions
from d2l.datasets.task_texts import choose_descriptions
from d2l.datasets.tasks import Task, read_tasks
from d2l.errors import TaskError
from d2l.evaluation.tasks.arms import (
    AskedTask,
    TaskMark,
    TaskOptions,
    ask_adapter,
    ask_base,
    choose_questions,
)
from d2l.evaluation.tasks.report import Answered, TaskReport, make_report
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.progress import Progress, silent

#: Descriptions of a task from which adapters are made, and which stand in the prompt: each for as
#: many of its examples.
DESCRIPTIONS = 3


def eval_adapter(
    adapter: Path,
    tasks: Path,
    *,
    asking: AskOptions,
    options: TaskOptions,
    watch: Progress = silent,
) -> TaskReport:
    """Ask an adapter and its base the tasks of a file; raises D2LError.

    In the prompt stands a task's own description, else the one that the adapter was made from.
    """
    found = read_tasks(tasks)
    asker = AdaptedModel.load(adapter, asking)
    made = asker.info.provenance
    own = [made.description.text] if made is not None and made.description is not None else []
    answered, remarks = [], []
    for task in watch(found, "asking"):
        asked = choose_questions(task, task.descriptions[:1] or own, asker.encode, options)
        marks = {"adapter": ask_adapter(asker, asked, asked.questions, options)}
        if options.compare:
            marks |= ask_base(asker, asked, options)
        if not asked.descriptions:
            remarks.append(f"task {task.name!r} has no description to put into the prompt")
        answered.append(Answered(asked, marks))
    return make_report(answered, remarks)


def eval_network(
    tasks: Sequence[Task],
    *,
    making: MakeOptions,
    asking: AskOptions,
    options: TaskOptions,
    shuffled: bool = False,
    watch: Progress = silent,
) -> TaskReport:
    """Make adapters from each task's descriptions, and ask them and the base; raises D2LError.

    `shuffled`: ask the adapters of another task's descriptions, too, each task's of the next.
    """
    for task in tasks:
        if not task.descriptions:
            raise TaskError(f"task {task.name!r} has no description to make an adapter from")
    if shuffled and len(tasks) < 2:
        raise TaskError("there is one task only, so its descriptions cannot be shuffled")
    texts = [choose_descriptions(task, DESCRIPTIONS) for task in tasks]
    with tempfile.TemporaryDirectory(prefix="d2l-eval-") as folder:
        maker = TaskCompiler(making)
        plan = maker.plan()
        bench = _Bench(maker, Path(folder), asking)
        answered = []
        for number, task in enumerate(watch(tasks, "asking")):
            asker = bench.put_on(texts[number][0])
            asked = choose_questions(task, texts[number], asker.encode, options)
            marks = ask_base(asker, asked, options) if options.compare else {}
            marks = {"adapter": bench.ask(asked, texts[number], options), **marks}
            if shuffled:
                others = texts[(number + 1) % len(tasks)]
                marks["shuffled"] = bench.ask(asked, others, options)
            answered.append(Answered(asked, marks))
    return make_report(answered, plan.warnings)


@dataclass
class _Bench:
    """Makes one adapter after the other and puts it on the same base."""

    maker: TaskCompiler
    folder: Path
    asking: AskOptions
    asker: AdaptedModel | None = None
    made: dict[str, Path] = field(default_factory=dict)  # by description

    def put_on(self, description: str) -> AdaptedModel:
        """The base with the adapter of this description; the one before is gone."""
        if description not in self.made:
            adapter = self.folder / f"{len(self.made)}.lora"
            self.made[description] = self.maker(description).save_pretrained(adapter)
        adapter = self.made[description]
        if self.asker is None:
            self.asker = AdaptedModel.load(adapter, self.asking)
        else:
            self.asker.set_adapter(adapter)
        return self.asker

    def ask(
        self, asked: AskedTask, descriptions: Sequence[str], options: TaskOptions
    ) -> list[TaskMark]:
        """Marks of all questions in order, each by the adapter of its description."""
        marks: list[TaskMark] = []
        for number, description in enumerate(descriptions):
            questions = [
                question
                for place, question in enumerate(asked.questions)
                if asked.spread(place, len(descriptions)) == number
            ]
            if questions:  # fewer questions than descriptions leave some out
                marks += ask_adapter(self.put_on(description), asked, questions, options)
        return marks
