"""Files of tasks → tasks: JSON lines, plain or gzip, a task with its examples in every row.

A row has task, definition, descriptions and examples of input and output; other keys are ignored.
Rows of input and output alone make one task without a description.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from d2l.datasets.examples import read_examples
from d2l.datasets.tasks import Example
from d2l.errors import TaskError
from d2l.files.jsonl import RowFormat, check_text, read_rows

_HINT = (
    "a row is a JSON object with task, definition, and examples, a list of objects with input and "
    "output; or one with input and output alone"
)


class Task(NamedTuple):
    """Descriptions of a task, the definition first, and solved examples; `shots` are a few more
    examples, for prompts. `choices` are all possible outputs, if these are few; none if answers
    are free. `license_clear`: networks trained on the task may be passed on."""

    name: str
    descriptions: tuple[str, ...]
    examples: tuple[Example, ...]
    shots: tuple[Example, ...] = ()
    choices: tuple[str, ...] = ()
    license_clear: bool = True


class TaskSplit(NamedTuple):
    """Tasks to train on, each with the weight of its source, and those held out of training."""

    training: tuple[tuple[Task, float], ...]
    held_out: tuple[Task, ...]


def read_tasks(path: Path) -> list[Task]:
    """Read a file of tasks; raises TaskError with the file and the line."""
    return _join(read_rows(path, RowFormat("a row of tasks", _HINT, TaskError), _make_row), path)


def read_cases(path: Path) -> list[Task]:
    """Read a file of tasks, or a table of examples as one task; raises TaskError."""
    if {".jsonl", ".ndjson", ".json"} & set(path.suffixes):
        return read_tasks(path)
    return [Task(path.stem, (), read_examples(path).examples)]


def pick_rows(path: Path, sha256: str, rows: Sequence[int]) -> list[Example]:
    """Read some rows of a file, counted from 1; raises TaskError if its digest is another.

    The columns need usual names; with other names, keep the examples with the adapter.
    """
    file = read_examples(path)
    if file.sha256 != sha256:
        raise TaskError(f"{path}: is not the file of examples that the adapter was made with")
    return [file.examples[row - 1] for row in rows]


def split_tasks(
    weighted: Sequence[tuple[Task, float]],
    *,
    excluded: Sequence[str],
    n_held_out: int,
    only_training: Collection[str] = (),
) -> TaskSplit:
    """Leave out the excluded tasks and those without a clear license, and hold out some of the
    rest.

    The held-out tasks are the `n_held_out` whose names have the smallest SHA-256, so nobody can
    choose them. Tasks of `only_training` are not held out. Raises TaskError.
    """
    known = {task.name for task, _ in weighted}
    left_out = set(excluded)
    for name in excluded:
        if name not in known:
            raise TaskError(f"excluded names {name!r}, which is no task of the sources")
    fit = [
        (task, weight)
        for task, weight in weighted
        if task.license_clear and task.name not in left_out
    ]
    open_to_both = [task for task, _ in fit if task.name not in only_training]
    if len(fit) <= n_held_out or len(open_to_both) < n_held_out:
        raise TaskError(
            f"{n_held_out} tasks are to be held out of the {len(open_to_both)} that have a clear "
            "license, are not excluded and may be held out",
            hint="add sources, or set held_out to less",
        )
    ordered = sorted(open_to_both, key=lambda task: hashlib.sha256(task.name.encode()).digest())
    held_out = tuple(ordered[:n_held_out])
    names = {task.name for task in held_out}
    return TaskSplit(tuple(pair for pair in fit if pair[0].name not in names), held_out)


def _make_row(row: dict[str, Any]) -> Task | Example:
    is_task = "task" in row or "examples" in row
    return _read_task(row) if is_task else _read_example(row)


def _read_task(row: dict[str, Any]) -> Task:
    descriptions = [row["definition"], *_list(row, "descriptions")]
    clear = row.get("license_clear", True)
    if type(clear) is not bool:
        raise TypeError("license_clear is neither true nor false")
    examples = tuple(map(_read_example, _list(row, "examples")))
    if not examples:
        raise TypeError("there are no examples")
    return Task(
        name=check_text(row["task"]),
        descriptions=tuple(dict.fromkeys(check_text(text).strip() for text in descriptions)),
        examples=examples,
        shots=tuple(map(_read_example, _list(row, "positive_examples"))),
        choices=tuple(dict.fromkeys(check_text(text).strip() for text in _list(row, "choices"))),
        license_clear=clear,
    )


def _read_example(row: Any) -> Example:
    """Read an example; `outputs` are right, too, beside `output`."""
    if not isinstance(row, dict):
        raise TypeError(f"an example is {row!r:.40}, expected an object")
    outputs = [*([row["output"]] if "output" in row else []), *_list(row, "outputs")]
    if not outputs:
        raise KeyError("output")
    checked = dict.fromkeys(check_text(output).strip() for output in outputs)
    return Example(check_text(row["input"]).strip(), tuple(checked))


def _list(row: dict[str, Any], key: str) -> list[Any]:
    values = row.get(key, [])
    if not isinstance(values, list):
        raise TypeError(f"{key} is not a list")
    return values


def _join(rows: Sequence[Task | Example], path: Path) -> list[Task]:
    """List the tasks of a file; the rows without a task's name make one more task."""
    tasks = [row for row in rows if isinstance(row, Task)]
    bare = tuple(row for row in rows if isinstance(row, Example))
    if bare:
        name = path.name.removesuffix(".gz").removesuffix(".jsonl")
        tasks.append(Task(name, (), bare))
    for name, n_tasks in Counter(task.name for task in tasks).items():
        if n_tasks > 1:
            raise TaskError(f"{path}: has two tasks of the name {name!r}")
    if not tasks:
        raise TaskError(f"{path}: holds no task", hint=_HINT)
    return tasks
