"""`live_check.json` as values: questions, and what is answered to them in every state."""

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from d2l.adapters.info import LIVE_CHECK as FILE
from d2l.adapters.info import WEIGHTS
from d2l.errors import AdapterError
from d2l.files.cache import file_digest

VERSION: Final = 1
_HINT = "make it again: d2l compile --live-check, or take it away"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Expected(_Record):
    """The greedy answer's beginning, and the likeliest first tokens with log-probabilities."""

    answer: str
    top: tuple[tuple[str, float], ...]


class Question(_Record):
    """A user's turn, and what is expected by state."""

    text: str
    expected: dict[str, Expected]


class Expectations(_Record):
    """All of the file. `adapter_sha256` is the digest of the weights that answered."""

    format: Literal[1] = VERSION
    adapter_sha256: str
    max_tokens: int
    questions: tuple[Question, ...]


def format_expectations(expectations: Expectations) -> str:
    """The file's text."""
    values: dict[str, Any] = expectations.model_dump(mode="json")
    return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read_expectations(adapter: Path) -> Expectations | None:
    """What the adapter's folder expects, None where it has no such file; raises AdapterError where
    the file is damaged, or older than the weights."""
    path = adapter / FILE
    if not path.is_file():
        return None
    try:
        found = Expectations.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise AdapterError(f"{path}: is damaged, or of another d2l", hint=_HINT) from error
    if found.adapter_sha256 != file_digest(adapter / WEIGHTS) or not found.questions:
        raise AdapterError(f"{path}: was made for other weights than lie beside it", hint=_HINT)
    return found
