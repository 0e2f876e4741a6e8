"""Rows of benchmarks, one for each document: questions, answers and costs, as JSON lines.

A stopped run goes on from the rows that it kept.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from d2l.errors import ProbeError
from d2l.files.atomic import naming
from d2l.files.jsonl import RowFormat, read_rows
from d2l_lab.bench.answers import AnsweredQuestion, Arm

_FORMAT = RowFormat("a row of d2l-lab bench", "name another file, or remove the line", ProbeError)


@dataclass(frozen=True)
class RunFacts:
    """The facts that all rows of a run share, without names of this machine and its folders."""

    bench: str
    network: str
    network_sha256: str
    base: str
    device: str
    dtype: str
    max_tokens: int
    versions: Mapping[str, str | None]


@dataclass(frozen=True)
class Cost:
    """Seconds and peak memory of some work.

    On CUDA: the bytes that torch allocated, and `extra_bytes` of them beyond those before the work.
    Elsewhere: the most bytes that the process has had until then.
    """

    seconds: float
    peak_bytes: int | None = None
    extra_bytes: int | None = None


@dataclass(frozen=True)
class DocumentRow:
    """A document, its adapter, and the answers to its questions.

    `set` and `length` are those of the report's row. `costs`: of a question, by arm.
    """

    run: RunFacts
    set: str
    length: int | None
    document: str
    sha256: str
    tokens: int
    chunks: int
    seats: int
    adapter_bytes: int
    parts_bytes: int
    compiling: Cost
    costs: Mapping[Arm, Cost]
    questions: tuple[AnsweredQuestion, ...]


def load_rows(path: Path) -> list[DocumentRow]:
    """Read the rows that a run kept; none without a file. Raises ProbeError."""
    if not path.exists():
        return []
    adapter = TypeAdapter(DocumentRow)
    return read_rows(path, _FORMAT, adapter.validate_python)


def append_row(path: Path, row: DocumentRow) -> None:
    """Add a row to those that are kept; raises ProbeError."""
    with naming(path, ProbeError), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")
