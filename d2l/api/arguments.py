"""Arguments that several functions of the API have; needs no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from d2l.adapters.peft_folder import AdapterContent

#: An adapter in memory, or where one lies: a folder, or a name on the hub.
AdapterLike = Union["AdapterContent", str, Path]


def find_content(adapter: AdapterLike) -> "AdapterContent | Path":
    """Return an adapter in memory as it is; find the folder of a name."""
    if isinstance(adapter, str | Path):
        from d2l.adapters.adapter_paths import find_adapter

        return find_adapter(adapter)
    return adapter
