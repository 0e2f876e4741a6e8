"""Which tasks a recipe trains on and which it holds out: a recipe in, tasks with their weights out.

For text networks, whose sources all hold tasks, and for seat networks, of which some may. Knows no
network and draws nothing for a step.
"""

import random
from collections import Counter
from pathlib import Path

from d2l.datasets.tasks import Task, TaskSplit, read_tasks, split_tasks
from d2l.errors import RecipeError
from d2l.training.learners.recipes import Recipe, Tasks


def gather_tasks(recipe: Recipe, *, only_held_out: bool = False) -> TaskSplit:
    """Read the sources of tasks and split them; raises D2LError. With `only_held_out`, sources of
    which no task may be held out are not read, and need not be there."""
    weighted: list[tuple[Task, float]] = []
    only_training: set[str] = set()
    sources = recipe.sources_of(tasks=True)
    wanted: Tasks = recipe.seats
    if not sources:  # all of a text network's hold tasks
        sources, wanted = recipe.sources, recipe.text_to_lora
    for source in sources:
        if only_held_out and not source.hold_out:
            continue
        tasks = read_tasks(Path(recipe.data) / source.path)
        random.Random(source.path).shuffle(tasks)
        weighted += [(task, source.weight) for task in tasks[: source.max_documents]]
        only_training.update(task.name for task in tasks if not source.hold_out)
    names = Counter(task.name for task, _ in weighted)
    for task, _ in weighted:
        if names[task.name] > 1:
            raise RecipeError(f"two sources have a task of the name {task.name!r}")
        if not task.descriptions:
            raise RecipeError(f"task {task.name!r} has no description")
    return split_tasks(
        weighted,
        excluded=[name for name in wanted.excluded if name in names or not only_held_out],
        n_held_out=wanted.held_out,
        only_training=only_training,
    )
