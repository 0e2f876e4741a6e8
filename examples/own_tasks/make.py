"""Write a file of tasks for `t2l train`: python examples/own_tasks/make.py DATA own_tasks.jsonl

DATA is the folder of the recipes' data, from which the tasks on passages are made.
"""

import json
import sys
from pathlib import Path

import lookups
import numbers_and_dates
import passages
import records
import sentences
import strings
from drafts import finish

_N_EXAMPLES = 150


def main(data: Path, target: Path) -> None:
    """Write all tasks, one a line."""
    families = (strings, numbers_and_dates, lookups, records, sentences)
    drafts = [draft for family in families for draft in family.draft_all()]
    drafts += passages.draft_all(data)
    rows = [finish(draft, n_examples=_N_EXAMPLES) for draft in drafts]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    target.write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{len(rows)} tasks, {sum(len(row['examples']) for row in rows)} examples")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
