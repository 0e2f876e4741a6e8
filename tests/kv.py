"""Adapters of a tiny base's own keys and values, compiled as `d2l compile --base FOLDER` does."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.api.compiler import Compiler
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.seats import calibration, seated
from tests import tiny
from tests.bases.family_templates import TEMPLATES
from tests.compiled import ADAPTER, Compiled

#: Chunks that leave room for the instruction in the tiny bases' window.
CHUNK_TOKENS = 62
HANDBOOK = """# The mill

This handbook is about the mill and its harbor.

## Pump

The pump stands in the harbor. The filter is rinsed every 14 days.

## Valves

Open the copper valve before the pressure falls below 3 bar.

### Spare valves

The spare valve lies in the meadow.

## Lantern

The lantern in the meadow is lit at 21:40. Ask the keeper for the key.
"""
_TOKENS = {
    "llama": {"bos_token": "<bos>"},
    "gemma2": {"bos_token": "<bos>"},
    "mistral": {"bos_token": "<s>", "eos_token": "</s>"},
}


def change_settings(base: Path, **changes: Any) -> Path:
    """Change values of a base's tokenizer_config.json; None removes one."""
    path = base / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8")) | changes
    kept = {name: value for name, value in settings.items() if value is not None}
    path.write_text(json.dumps(kept), "utf-8")
    return base


def write_base(folder: Path, family: str) -> Path:
    """Write the tiny base of a family, with the form of its public chat templates."""
    base = tiny.write_base(folder, family)
    return change_settings(base, chat_template=TEMPLATES[family], **_TOKENS.get(family, {}))


def measure_little(patch: pytest.MonkeyPatch, n_tokens: int = 60) -> None:
    """Measure a base's second moments on a few tokens of text."""
    few = partial(calibration.cut_plain_text, n_tokens=n_tokens)
    patch.setattr(seated, "cut_plain_text", few)


def compile_own(root: Path, family: str, text: str = HANDBOOK, **changes: Any) -> Compiled:
    """Compile a handbook by a base's own keys and values; all files and caches lie in `root`."""
    base, path = root / f"{family}-tiny", root / "handbook.md"
    if not base.exists():
        write_base(base, family)
    path.write_text(text, "utf-8")
    values: dict[str, Any] = {"checkpoint": "kv", "base": str(base), "device": "cpu"}
    values |= {"offline": True, "chunk_tokens": CHUNK_TOKENS, "dtype": "fp32"}
    options = CompileOptions(**(values | changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2L_CACHE_DIR", str(root / "cache"))
        measure_little(patch)
        compiler = Compiler(options)
        plan = compiler.plan(read_document(Source(str(path), path)))
        compiler(plan).save_pretrained(root / ADAPTER)
    return Compiled(root, base, compiler.network.files.path, root / ADAPTER, plan)


def load(done: Compiled, **changes: Any) -> AdaptedModel:
    """Load the base with the adapter on it."""
    options = AskOptions(str(done.base), "cpu", 8, offline=True)
    return AdaptedModel.load(done.adapter, AskOptions(**(vars(options) | changes)))
