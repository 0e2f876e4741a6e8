"""Does a network's familiarity tell descriptions from other texts, kind by kind?

Usage: python -m tests.tools.familiarity RECIPE RUN   (a recipe with tasks, and its run)
Areas under the curve between new descriptions and new texts of each kind, which no axis was fitted
to: 1 where every description is more familiar than every other text, 0.5 by chance.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from d2l.commands import console
from d2l.files.tensors import find_kept
from d2l.hypernets.familiarity import LEAST_FAMILIAR, Familiarity, read_familiarity
from d2l.learners.familiarity import EMBEDDINGS, list_texts
from d2l.learners.task_data import gather_tasks
from d2l.training.recipe_files import read_recipe


def measure_area(above: Tensor, below: Tensor) -> float:
    """The share of pairs in which the first is larger; pairs that are equal count one half."""
    apart = above[:, None] - below[None]
    return float((apart > 0).double().mean() + (apart == 0).double().mean() / 2)


def measure_all(known: Familiarity, embeddings: Tensor) -> Tensor:
    """Familiarity of each embedding, (texts,)."""
    return torch.tensor([known.measure(one) for one in embeddings])


def main(named: str, run: str) -> None:
    """Print a line for each kind, and one for the descriptions."""
    recipe = read_recipe(Path(named))
    tasks = gather_tasks(recipe)
    kept = find_kept(Path(run, EMBEDDINGS))
    assert kept is not None, f"{run} keeps no embeddings"
    most = (recipe.seats if recipe.sources_of(tasks=True) else recipe.text_to_lora).descriptions
    parts = list_texts(tasks, most)
    texts = parts.split(kept[0]["embeddings"])
    known = read_familiarity(Path(run), texts.training.shape[1])
    assert known is not None, f"{run} says nothing of familiarity"
    like = measure_all(known, texts.descriptions)
    share = float((like >= LEAST_FAMILIAR).double().mean())
    console.result(f"descriptions: {len(like)}, familiar {share:.3f}")
    for kind, embeddings in texts.new.items():
        unlike = measure_all(known, embeddings)
        share = float((unlike >= LEAST_FAMILIAR).double().mean())
        area = measure_area(like, unlike)
        console.result(f"{kind}: {len(unlike)}, area {area:.3f}, taken for familiar {share:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
