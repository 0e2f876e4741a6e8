"""Adapter or network + tasks → report: scores on the tasks that descriptions name.

One base stays in memory. A network's adapters are made as `t2l make` does, in a temporary folder,
and PEFT loads them from there.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2l import AdaptedModel, TaskCompiler
from d2l.answer.options import AskOptions
from d2l.datasets.tasks import Example
from d2l.errors import TaskError
from d2l.hypernets.options import TaskCompileOptions
from d2l.progress import Progress, silent
from d2l_lab.task_files import Task, pick_rows, read_cases
from d2l_lab.tasks.arms import TaskMark, ask_adapter, ask_base, choose_questions
from d2l_lab.tasks.report import AnsweredTask, TaskReport, make_report
from d2l_lab.training.learners.tasks import choose_descriptions

#: Most descriptions of a task. Each gets an adapter, stands in the prompt, and has its share of the
#: examples.
DESCRIPTIONS = 3


def eval_adapter(
    adapter: Path,
    tasks: Path,
    *,
    asking: AskOptions,
    examples: Path | None = None,
    limit: int = 20,
    watch: Progress = silent,
) -> TaskReport:
    """Ask an adapter and its base at most `limit` examples of each task of a file; raises D2LError.

    The prompt has the task's own description, else the adapter's. `examples` is the file that the
    adapter was made with; the prompt then has the examples that the adapter read, too.
    """
    rows = read_cases(tasks)
    asker = AdaptedModel.from_pretrained(
        adapter, base=asking.base, device=asking.device, local_files_only=asking.offline
    )
    provenance = asker.info.provenance
    description = None if provenance is None else provenance.description
    own = [] if description is None else [description.text]
    shots = _find_shots(adapter, description, examples)
    answered, remarks = list[AnsweredTask](), list[str]()
    if description is not None and description.examples is not None and not shots:
        remarks.append("name the adapter's examples with --examples to ask with them in the prompt")
    for task in watch(rows, "asking"):
        chosen = choose_questions(task, task.descriptions[:1] or own, asker.encode, limit)
        marks = {"adapter": ask_adapter(asker, chosen, chosen.questions)}
        marks |= ask_base(asker, chosen, shots)
        if not chosen.descriptions:
            remarks.append(f"task {task.name!r} has no description to put into the prompt")
        answered.append((chosen, marks))
    return make_report(answered, remarks)


def _find_shots(adapter: Path, description: Any, examples: Path | None) -> list[Example]:
    """Find the examples that an adapter read, in their file; raises TaskError for another file."""
    record = None if description is None else description.examples
    if examples is None:
        return []
    if record is None:
        raise TaskError(f"{adapter}: was made without examples", hint="leave --examples out")
    return pick_rows(examples, record.sha256, record.rows)


def _choose_shots(maker: TaskCompiler, description: str, shots: Sequence[Example]) -> list[Example]:
    """Choose the examples that the network reads, in its order; empty if it reads none or none
    fits."""
    if not (shots and maker.network.reads_examples):
        return []
    try:
        record = maker.plan(description, examples=pair_up(shots)).examples
    except TaskError:
        return []
    return [] if record is None else [shots[row - 1] for row in record.rows]


def eval_network(
    tasks: Sequence[Task],
    *,
    making: TaskCompileOptions,
    asking: AskOptions,
    limit: int = 20,
    watch: Progress = silent,
) -> TaskReport:
    """Make adapters from each task's descriptions, and with its shots where the network reads
    examples, and ask them and the base; raises D2LError."""
    for task in tasks:
        if not task.descriptions:
            raise TaskError(f"task {task.name!r} has no description to make an adapter from")
    maker = TaskCompiler(making)
    answered, remarks, asker = list[AnsweredTask](), list[str](maker.network.warnings), None
    with tempfile.TemporaryDirectory(prefix="d2l-eval-") as folder:
        for number, task in enumerate(watch(tasks, "asking")):
            texts = choose_descriptions(task, DESCRIPTIONS)
            shots = _choose_shots(maker, texts[0], task.shots)
            arms: dict[str, dict[str, Any]] = {"adapter": {}}
            if shots:
                arms["both"] = {"examples": pair_up(task.shots)}
            marks, chosen = dict[str, list[TaskMark]](), None
            for arm, wishes in arms.items():
                for n, text in enumerate(texts):
                    adapter = maker(text, **wishes).save_pretrained(
                        Path(folder, f"{number}-{n}-{arm}.lora")
                    )
                    if asker is None:
                        asker = AdaptedModel.load(adapter, asking)
                    asker.set_adapter(adapter)
                    chosen = chosen or choose_questions(task, texts, asker.encode, limit)
                    owners = zip(chosen.share_out(texts), chosen.questions, strict=True)
                    own = [question for owner, question in owners if owner == text]
                    marks[arm] = marks.get(arm, []) + ask_adapter(asker, chosen, own)
            assert asker is not None
            assert chosen is not None
            answered.append((chosen, marks | ask_base(asker, chosen, shots)))
    return make_report(answered, remarks)


def pair_up(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Pair inputs with their first outputs."""
    return [(example.input, example.outputs[0]) for example in examples]
