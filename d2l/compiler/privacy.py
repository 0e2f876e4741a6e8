"""Names that an adapter passes on: those of its inputs, without its maker's folders.

The user's names in, names to pass on out; and texts and provenance with the latter.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from d2l.adapters.provenance import Provenance
from d2l.documents.document import Document, Source
from d2l.files.cache import find_local
from d2l.hypernets.registry import ALIASES

if TYPE_CHECKING:
    from d2l.compiler.plan import CompilePlan

#: Names to pass on, by the user's names.
Names = Mapping[str, str]


def name_shared(plan: "CompilePlan") -> Names:
    """Find the names to pass on, by those of a plan."""
    if plan.options.keep_paths:
        return {}
    names = name_documents(plan.documents, [name for name, _ in plan.intake.skipped])
    return names | name_places(*plan.places)


def name_documents(
    documents: Sequence[Document | Source], skipped: Iterable[str] = ()
) -> dict[str, str]:
    """Name each document in an adapter: by its file, or its path within the folder that the user
    named; no name twice."""
    wanted = {d.name: d.shared or PurePath(d.name).name for d in documents}
    # Names without a folder stay: such a word may mean something else in a text.
    names = {name: name for name, shared in wanted.items() if name == shared}
    for name, shared in wanted.items():
        if name not in names:
            names[name] = _tell_apart(shared, names.values())
    for name in skipped:
        wanted.setdefault(name, PurePath(name).name)
    return wanted | names


def _tell_apart(name: str, taken: Collection[str]) -> str:
    """Add a number to the stem of a name that is taken."""
    path, shared, n = PurePath(name), name, 1
    while shared in taken:
        n += 1
        shared = str(path.with_stem(f"{path.stem} ({n})"))
    return shared


def name_places(*given: str | None) -> dict[str, str]:
    """Name checkpoints and bases that the user named by a path."""
    return {
        name: PurePath(name).name
        for name in given
        if name is not None and name not in ALIASES and find_local(name) is not None
    }


def redact(text: str, names: Names) -> str:
    """Replace the user's names in a text by those to pass on, the longest names first. Replacements
    are not replaced again."""
    given = sorted((name for name in names if name and name != names[name]), key=len, reverse=True)
    if not given:
        return text
    return re.sub("|".join(map(re.escape, given)), lambda found: names[found[0]], text)


def redact_provenance(made: Provenance, names: Names) -> Provenance:
    """Replace the names in a provenance as `redact` does."""
    if all(given == shared for given, shared in names.items()):
        return made
    return Provenance.model_validate(_redact(made.model_dump(exclude_unset=True), names))


def _redact(value: Any, names: Names) -> Any:
    if isinstance(value, str):
        return redact(value, names)
    if isinstance(value, Mapping):
        return {_redact(key, names): _redact(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redact(inner, names) for inner in value]
    return value
