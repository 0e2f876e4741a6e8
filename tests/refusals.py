"""What a call that is refused says to its user."""

from collections.abc import Callable
from typing import Any

import pytest

from d2l.errors import D2LError


def refuse(
    error: type[D2LError], call: Callable[..., object], /, *arguments: Any, **options: Any
) -> tuple[str, str | None]:
    """Message and hint of the error that a call raises; each is one line."""
    with pytest.raises(error) as raised:
        call(*arguments, **options)
    assert "\n" not in f"{raised.value.message}{raised.value.hint}"
    return raised.value.message, raised.value.hint
