"""A provenance that says nothing more than it must."""

from typing import Any

MINIMAL: dict[str, Any] = {
    "format": 1,
    "tool": {"name": "d2l", "version": "0.1.0"},
    "checkpoint": {"name": "seats", "network": "seats", "sha256": "f" * 64},
    "base": {"name": "tiny-org/llama-tiny", "sha256": None},
    "inputs": [],
    "skipped": [],
    "chunks": [],
    "rank": 2,
    "options": {},
    "merge_error": {},
    "prompt": {"chat_template": "base", "turns": "user", "opening": None},
    "warnings": [],
}
