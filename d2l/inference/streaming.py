"""Streaming of an answer's text while its tokens are sampled."""

from collections.abc import Callable
from typing import Any

import transformers

Emit = Callable[[str], None]


def discard(text: str) -> None:
    """Stream `text` to nowhere."""


class Streamer(transformers.TextStreamer):
    """Streamer that hands whole words to a function instead of printing them."""

    def __init__(self, tokenizer: Any, emit: Emit) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._emit = emit

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
        """Receive text that no later token can change."""
        if text:
            self._emit(text)
