"""How well could an adapter do a held-out task? One tuned on the task's own examples, as a ceiling.

Usage: python -m tests.tools.oracle RECIPE TASK...   (a recipe of `t2l train`; writes to ./oracle)
What `t2l eval --held-out RECIPE` asks is left out of training. A text network with one description
to read is an adapter and no more, so the recipe's network gives its rank and its modules.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import d2l
from d2l.commands import console
from d2l.datasets.tasks import Example, Task
from d2l.evaluation.tasks.arms import TaskOptions, choose_questions
from d2l.evaluation.tasks.evaluate import eval_adapter
from d2l.evaluation.tasks.report import Row
from d2l.inference.adapted_model import AskOptions
from d2l.learners.recipes import Length, Recipe, Source, TextToLoraTable
from d2l.training.loop import gather, train
from d2l.training.recipe_files import read_held_out, read_recipe

STEPS, LINES, TOKENS = 150, 8, 320
# As the README's table of held-out tasks was made.
OPTIONS = TaskOptions(limit=12, max_tokens=32, max_input=300, compare=False)


def write_task(path: Path, task: Task, examples: Sequence[Example]) -> None:
    """A file of one task with some of its examples, and its definition alone to describe it."""
    rows = [{"input": one.input, "outputs": list(one.outputs)} for one in examples]
    row = {"task": task.name, "definition": task.descriptions[0], "examples": rows}
    path.write_text(json.dumps(row) + "\n", "utf-8")


def measure(
    task: Task, recipe: Recipe, work: Path, *, steps: int = STEPS, options: TaskOptions = OPTIONS
) -> Row:
    """Tune, in the folder `work`, and ask; the task's row of the report."""
    work.mkdir(parents=True, exist_ok=True)
    asked = choose_questions(task, (), gather(recipe).tokenizer.encode, options).questions
    rest = [one for one in task.examples if one not in asked]
    write_task(work / "asked.jsonl", task, asked)
    write_task(work / "rest.jsonl", task, rest)
    own = replace(
        recipe,
        data=str(work),
        sources=(Source("rest.jsonl", 1.0),),
        lengths=(Length(TOKENS, 1, 1, LINES, 1.0),),
        steps=steps,
        hours=0.0,
        text_to_lora=TextToLoraTable(descriptions=recipe.text_to_lora.descriptions),
    )
    train(own, work / "run")
    maker = d2l.TaskCompiler.from_pretrained(str(work / "run"))
    adapter = maker(task.descriptions[0]).save_pretrained(work / "task.lora", force=True)
    asking = AskOptions(max_tokens=options.max_tokens)
    report = eval_adapter(adapter, work / "asked.jsonl", asking=asking, options=options)
    return report.rows[0] | {"arm": "tuned", "tuned_on": len(rest)}


def main(named: str, *names: str) -> None:
    """Measure the tasks named, and print one JSON object for each."""
    recipe = read_recipe(Path(named))
    for task in read_held_out(Path(named)):
        if task.name in names:
            row = measure(task, recipe, Path("oracle", task.name))
            console.result_json(row)


if __name__ == "__main__":
    main(*sys.argv[1:])
