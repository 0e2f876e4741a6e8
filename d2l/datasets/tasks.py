"""Files of tasks → tasks: JSON lines, plain or gzip, a task with its examples in every row.

A row has task, definition, descriptions and examples of input and output; other keys are passed
over. Rows of input and output alone are one task without a description. Knows no network.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.errors import TaskError

_HINT = (
    "a row is a JSON object with task, definition, and examples, a list of objects with input and "
    "output; or one with input and output alone"
)


@dataclass(frozen=True)
class Example:
    """An input, and the outputs that are right; the first is the one to train on."""

    input: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What is asked for, said in several ways, the definition first; solved examples of it, and
    `shots`, a few more that are for prompts. `license_clear`: a network may be trained on it and
    passed on."""

    name: str
    descriptions: tuple[str, ...]
    examples: tuple[Example, ...]
    shots: tuple[Example, ...] = ()
    license_clear: bool = True


@dataclass(frozen=True)
class TaskSplit:
    """Tasks to train on, each with the weight of its source, and those held out of training."""

    training: tuple[tuple[Task, float], ...]
    held_out: tuple[Task, ...]


def read_tasks(path: Path) -> list[Task]:
    """Read a file of tasks; raises TaskError with the file and the line."""
    try:
        return _join(list(_read_rows(path)), path)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TaskError(f"{path}: cannot be read ({reason})", hint="check the path") from error


def split_tasks(
    found: Sequence[tuple[Task, float]],
    *,
    excluded: Sequence[str],
    n_held_out: int,
    only_training: Collection[str] = (),
) -> TaskSplit:
    """Leave out the excluded tasks and those without a clear license, and hold some of the rest.

    Held out are the `n_held_out` tasks the SHA-256 of whose names is smallest: which ones depends
    on nothing that could be chosen. Those named in `only_training` are none of them. Raises
    TaskError.
    """
    known = {task.name for task, _ in found}
    for name in excluded:
        if name not in known:
            raise TaskError(f"excluded names {name!r}, which is no task of the sources")
    fit = [
        (task, weight)
        for task, weight in found
        if task.license_clear and task.name not in set(excluded)
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
    return TaskSplit(tuple(one for one in fit if one[0].name not in names), held_out)


def _read_rows(path: Path) -> Iterator[Task | Example]:
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    with opener(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _read_row(line.strip(), f"{path}, line {number}")
    if not number:
        raise TaskError(f"{path}: the file is empty", hint="write one JSON object a line")


def _read_row(line: bytes, where: str) -> Task | Example:
    try:
        row = json.loads(line.decode("utf-8-sig"))
        if not isinstance(row, dict):
            raise TypeError(f"expected an object, got {type(row).__name__}")
        if "task" not in row and "examples" not in row:
            return _read_example(row)
        return _read_task(row)
    except KeyError as error:
        raise TaskError(f"{where}: not a row of tasks ({error} is missing)", hint=_HINT) from error
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise TaskError(f"{where}: not a row of tasks ({reason})", hint=_HINT) from error


def _read_task(row: dict[str, Any]) -> Task:
    descriptions = [row["definition"], *_list(row, "descriptions")]
    clear = row.get("license_clear", True)
    if type(clear) is not bool:
        raise TypeError("license_clear is neither true nor false")
    examples = tuple(map(_read_example, _list(row, "examples")))
    if not examples:
        raise TypeError("there are no examples")
    return Task(
        name=_check_text(row["task"]),
        descriptions=tuple(dict.fromkeys(_check_text(text).strip() for text in descriptions)),
        examples=examples,
        shots=tuple(map(_read_example, _list(row, "positive_examples"))),
        license_clear=clear,
    )


def _read_example(row: Any) -> Example:
    """An example; `outputs` are further right ones, besides `output`."""
    if not isinstance(row, dict):
        raise TypeError(f"an example is {row!r:.40}, expected an object")
    outputs = [*([row["output"]] if "output" in row else []), *_list(row, "outputs")]
    if not outputs:
        raise KeyError("output")
    checked = dict.fromkeys(_check_text(output).strip() for output in outputs)
    return Example(_check_text(row["input"]).strip(), tuple(checked))


def _list(row: dict[str, Any], key: str) -> list[Any]:
    values = row.get(key, [])
    if not isinstance(values, list):
        raise TypeError(f"{key} is not a list")
    return values


def _check_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"expected text, got {value!r:.40}")
    value.encode("utf-8")  # JSON can spell halves of characters
    return value


def _join(rows: Sequence[Task | Example], path: Path) -> list[Task]:
    """Tasks of a file, rows without a task's name being one more."""
    tasks = [row for row in rows if isinstance(row, Task)]
    bare = tuple(row for row in rows if isinstance(row, Example))
    if bare:
        name = path.name.removesuffix(".gz").removesuffix(".jsonl")
        tasks.append(Task(name, (), bare))
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise TaskError(f"{path}: has two tasks of the name {name!r}")
    if not tasks:
        raise TaskError(f"{path}: holds no task", hint=_HINT)
    return tasks
