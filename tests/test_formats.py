"""File formats: a change of one is a change of its version, or is told here to be none.

Digests are of what a reader of the format accepts. Where one differs, an earlier d2l refuses or
misreads the new files: raise the version, and keep a reader of the one before. Only where earlier
readers pass over what is new, or files without it mean what they meant, the digest alone is written
anew.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from d2l.adapters import provenance
from d2l.hypernets.doc_to_lora.network import DocToLoraConfig
from d2l.hypernets.formats import native
from d2l.hypernets.kv.config import KvConfig
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.shine.network import ShineConfig
from d2l.hypernets.text_to_lora.network import TextToLoraConfig


def read_schema() -> object:
    """That of d2l.json, as it is shipped; a test of its own holds it to the code."""
    path = Path(provenance.__file__).with_name("provenance.schema.json")
    return json.loads(path.read_text("utf-8"))


def describe_config(config: type) -> object:
    return [(one.name, str(one.type), one.default is MISSING) for one in fields(config)]


#: File: version, digest, and what is digested. A seat network says 0 or 1 for itself (its config).
FORMATS: dict[str, tuple[int, str, Callable[[], object]]] = {
    "d2l.json": (3, "20e2d309210f7489", read_schema),
    "config.json of seats": (1, "01d1bdea21960f27", lambda: describe_config(SeatsConfig)),
    "config.json of kv": (1, "c0aa16fb66d84f57", lambda: describe_config(KvConfig)),
    "config.json of doc_to_lora": (1, "634373ab7b7dd4e9", lambda: describe_config(DocToLoraConfig)),
    "config.json of shine": (1, "7f75801f40b3318b", lambda: describe_config(ShineConfig)),
    "config.json of text_to_lora": (
        1,
        "18afa65fec325590",
        lambda: describe_config(TextToLoraConfig),
    ),
}
VERSIONS = {
    "d2l.json": provenance.VERSION,
    "config.json of doc_to_lora": native.VERSION,
    "config.json of shine": native.VERSION,
    "config.json of text_to_lora": native.VERSION,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_change_of_a_format_is_a_change_of_its_version(name: str) -> None:
    version, digest, describe = FORMATS[name]
    text = json.dumps(describe(), sort_keys=True)
    assert VERSIONS.get(name, version) == version
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest
