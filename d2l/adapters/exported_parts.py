"""`index.json`: the parts of an adapter, with their model names in engines."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from d2l.adapters.info import is_adapter, read_info
from d2l.adapters.parts import PartIndex, PartRecord, Parts, read_parts
from d2l.adapters.provenance import Record
from d2l.adapters.record_values import Text
from d2l.errors import AdapterError

INDEX: Final = "index.json"
_MAX_BYTES = 1 << 30


class ExportedPart(PartRecord):
    """A part, the model's name in an engine, and its folder or file beside the index."""

    name: Text
    path: Text


class ExportIndex(Record):
    """Content of index.json: `name` is the manual's, `base` the base's."""

    format: Literal[1] = 1
    name: Text
    base: Text
    parts: tuple[ExportedPart, ...]

    def to_parts(self) -> Parts:
        """Parts for questions to choose among."""
        return Parts(PartIndex(parts=self.parts))


def name_parts(
    name: str, base: str, records: Sequence[PartRecord], *, suffix: str = ""
) -> ExportIndex:
    """Name an adapter's parts "manual-part-0017", in files of this suffix or in folders; overviews
    are longer than the seats of an engine's adapter."""
    records = [record for record in records if not record.is_overview]
    width = max(4, len(str(len(records))))
    parts = []
    for n, record in enumerate(records):
        own = f"{name}-part-{n:0{width}d}"
        parts.append(ExportedPart(**record.to_json(), name=own, path=own + suffix))
    return ExportIndex(format=1, name=name, base=base, parts=tuple(parts))


def write_index(index: ExportIndex, folder: Path) -> None:
    """Write index.json."""
    text = json.dumps(index.to_json(), ensure_ascii=False, indent=1) + "\n"
    (folder / INDEX).write_text(text, "utf-8", "backslashreplace", "\n")


def read_index(folder: Path) -> ExportIndex:
    """Read the index of exported parts, or make one for an adapter's own parts; raises AdapterError
    for a folder without parts."""
    path = folder / INDEX
    if path.is_file():
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError(f"more than {_MAX_BYTES:,} bytes")
            return ExportIndex.model_validate(json.loads(path.read_bytes()))
        except (OSError, ValueError, RecursionError) as error:
            raise AdapterError(
                f"{path}: cannot be used ({error})", hint="export the parts again"
            ) from error
    info = read_info(folder) if is_adapter(folder) else None
    parts = read_parts(info) if info is not None else None
    if info is None or parts is None:
        raise AdapterError(
            f"{folder}: has no parts",
            hint="name an adapter compiled with --parts, or what d2l export --to parts wrote",
        )
    base = str(info.config.get("base_model_name_or_path") or "")
    return name_parts(name_manual(folder), base, parts.records)


def name_manual(folder: Path) -> str:
    """Name an adapter as a model: by its folder, or the link to the folder, without ".lora"."""
    return os.path.basename(os.path.abspath(folder)).removesuffix(".lora") or folder.name
