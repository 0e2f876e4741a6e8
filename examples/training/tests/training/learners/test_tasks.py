from pathlib import Path

from d2l_lab.task_files import read_tasks
from d2l_lab.training.learners.tasks import choose_descriptions, choose_examples
from tests import tiny_tasks


def test_descriptions_are_chosen_the_same_way_again(tmp_path: Path) -> None:
    many = [f"Way {n} of saying it" for n in range(50)]
    row = tiny_tasks.make_row("ore", descriptions=many)
    (task,) = read_tasks(tiny_tasks.write_tasks(tmp_path / "t", [row]))
    chosen = choose_descriptions(task, 8)
    assert chosen == choose_descriptions(task, 8)
    assert len(set(chosen)) == 8
    assert chosen[0] == task.descriptions[0]
    assert choose_descriptions(task, 99) == task.descriptions
    assert choose_descriptions(task, 1) == task.descriptions[:1]


def test_examples_are_chosen_the_same_way_again(tmp_path: Path) -> None:
    (task,) = read_tasks(tiny_tasks.write_tasks(tmp_path / "t", [tiny_tasks.make_row("ore")]))
    chosen = choose_examples(task, 3)
    assert chosen == choose_examples(task, 3)
    assert len(set(chosen)) == 3
    assert set(chosen) <= set(task.examples)
    assert choose_examples(task, 0) == choose_examples(task, 99) == task.examples
