"""Write a file of further tasks: python examples/own_tasks/more.py DATA more_tasks.jsonl

DATA is the folder of the recipes' data. Beside `make.py`'s: office texts, tool calls, notations,
labels, code, rewriting, manners of answering, and shelves of texts, described in many voices.
"""

import sys
from pathlib import Path

import answers
import calls
import domains
import labels
import notations
import programs
import rewriting
import shelves
from drafts import finish, write_rows
from passages import read_asked, read_rows, split_sentences
from voices import describe

_N_EXAMPLES = 100
#: Files of passages and questions, by what they are called in names of tasks.
_FIELDS = {
    "article": ("qa_train_squad_articles", "qa_train_qed_nq"),
    "tale": ("qa_train_fairytaleqa",),
    "medicine": ("qa_train_medquad_first_sentence", "qa_train_covidqa"),
    "rules": ("qa_train_conditionalqa_govuk",),
}


def main(data: Path, target: Path) -> None:
    """Write all tasks, one a line."""
    families = (domains, calls, notations, labels, programs)
    drafts = [draft for family in families for draft in family.draft_all()]
    drafts += answers.draft_all({name: read_asked(data, files) for name, files in _FIELDS.items()})
    docs = (str(row["doc"]) for row in read_rows(data, ("qa_train_newwiki",), field="doc"))
    sentences = [one for doc in docs for one in split_sentences(doc) if 6 <= len(one.split()) <= 25]
    drafts += rewriting.draft_all(sentences)
    drafts += shelves.draft_all(data)
    write_rows(target, [finish(d, n_examples=_N_EXAMPLES, describe=describe) for d in drafts])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
