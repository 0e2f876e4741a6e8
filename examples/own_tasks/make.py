"""Write a file of tasks for `t2l train`: python examples/own_tasks/make.py DATA own_tasks.jsonl

DATA is the folder of the recipes' data, from which the tasks on passages are made.
"""

import sys
from pathlib import Path

import lookups
import numbers_and_dates
import passages
import records
import sentences
import strings
from drafts import finish, write_rows

_N_EXAMPLES = 150


def main(data: Path, target: Path) -> None:
    """Write all tasks, one a line."""
    families = (strings, numbers_and_dates, lookups, records, sentences)
    drafts = [draft for family in families for draft in family.draft_all()]
    drafts += passages.draft_all(data)
    write_rows(target, [finish(draft, n_examples=_N_EXAMPLES) for draft in drafts])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
