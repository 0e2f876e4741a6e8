"""Adapter or network + tasks → report: does the adapter do what its description says?

One base in memory. A network's adapters go the way of `t2l make`, into a temporary folder, and PEFT
loads them from there.
"""

import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from d2l.api.compiler import TaskCompiler
from d2l.datasets.task_texts import choose_descriptions
from d2l.datasets.tasks import Task, read_tasks
from d2l.errors import TaskError
from d2l.evaluation.tasks.arms import TaskMark, ask_adapter, ask_base, choose_questions
from d2l.evaluation.tasks.report import AnsweredTask, TaskReport, make_report
from d2l.hypernets.options import CompileOptions
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.progress import Progress, silent

#: Descriptions of a task from which adapters are made, and which stand in the prompt: each for as
#: many of its examples.
DESCRIPTIONS = 3


def eval_adapter(
    adapter: Path, tasks: Path, *, asking: AskOptions, limit: int = 20, watch: Progress = silent
) -> TaskReport:
    """Ask an adapter and its base at most `limit` examples of each task of a file; raises D2LError.

    In the prompt stands a task's own description, else the adapter's.
    """
    rows = read_tasks(tasks)
    asker = AdaptedModel.load(adapter, asking)
    provenance = asker.info.provenance
    description = None if provenance is None else provenance.description
    own = [] if description is None else [description.text]
    answered, remarks = list[AnsweredTask](), list[str]()
    for task in watch(rows, "asking"):
        asked = choose_questions(task, task.descriptions[:1] or own, asker.encode, limit)
        marks = {"adapter": ask_adapter(asker, asked, asked.questions), **ask_base(asker, asked)}
        if not asked.descriptions:
            remarks.append(f"task {task.name!r} has no description to put into the prompt")
        answered.append((asked, marks))
    return make_report(answered, remarks)


def eval_network(
    tasks: Sequence[Task],
    *,
    making: CompileOptions,
    asking: AskOptions,
    limit: int = 20,
    watch: Progress = silent,
) -> TaskReport:
    """Make adapters from each task's descriptions, and ask them and the base; raises D2LError."""
    for task in tasks:
        if not task.descriptions:
            raise TaskError(f"task {task.name!r} has no description to make an adapter from")
    maker, answered, asker = TaskCompiler(making), list[AnsweredTask](), None
    with tempfile.TemporaryDirectory(prefix="d2l-eval-") as folder:
        for number, task in enumerate(watch(tasks, "asking")):
            texts = choose_descriptions(task, DESCRIPTIONS)
            adapters = {
                text: maker(text).save_pretrained(Path(folder, f"{number}-{n}.lora"))
                for n, text in enumerate(texts)
            }
            asker = asker or AdaptedModel.load(adapters[texts[0]], asking)
            asked = choose_questions(task, texts, asker.encode, limit)
            marks: list[TaskMark] = []
            pairs = zip(asked.share_out(texts), asked.questions, strict=True)
            for text, own in groupby(pairs, key=lambda pair: pair[0]):
                asker.set_adapter(adapters[text])
                marks += ask_adapter(asker, asked, [question for _, question in own])
            answered.append((asked, {"adapter": marks, **ask_base(asker, asked)}))
    return make_report(answered, maker.network.warnings)
