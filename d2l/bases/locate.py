"""Where a base lies, and the digest of its weights: found without torch and without transformers.

A name in, paths out. Makes nothing: what has to be unpacked is unpacked by `models.find_base`.
"""

from dataclasses import dataclass
from pathlib import Path

from d2l.bases.catalog import BY_ALIAS, BY_NAME, fetch_command, find_file
from d2l.errors import BaseModelError
from d2l.files import hub
from d2l.files.cache import file_digest, find_local, join_digests
from d2l.files.regular import refuse_irregular


@dataclass(frozen=True)
class Place:
    """A model's folder, or the GGUF file that one is made from; one of the two is set."""

    folder: Path | None = None
    gguf: Path | None = None

    def digest(self) -> str:
        """SHA-256 over what holds the weights."""
        return weights_digest(self.folder, self.gguf)


def locate_base(
    name: str, *, override: str | None = None, offline: bool = False, config_only: bool = False
) -> Place:
    """Find a base in the order that `models.find_base` tells; raises BaseModelError."""
    wanted = override if override is not None else name
    path = find_local(wanted)
    if path is not None and path.is_dir():
        if not (path / "config.json").is_file():
            raise BaseModelError(
                f"{path}: no config.json, so this is not a model folder",
                hint="name the folder that holds config.json, model.safetensors and tokenizer.json",
            )
        refuse_irregular(path, BaseModelError)
        return Place(folder=path)
    if path is not None:
        refuse_irregular(path, BaseModelError)
        return Place(gguf=path)
    known = BY_NAME.get(name) if override is None else BY_ALIAS.get(override)
    if known is None:
        return Place(hub.fetch_model(wanted, offline=offline, config_only=config_only))
    file = find_file(known)
    if file is None:
        raise BaseModelError(
            f"the base {known.name} is not on this machine", hint=f"get it: {fetch_command(known)}"
        )
    return Place(gguf=file)


def weights_digest(folder: Path | None, gguf: Path | None) -> str:
    """SHA-256 over what holds a base's weights: the GGUF file, or all safetensors shards."""
    if gguf is not None:
        return file_digest(gguf)
    assert folder is not None
    shards = sorted(folder.glob("*.safetensors"))
    if len(shards) == 1:
        return file_digest(shards[0])
    return join_digests([file_digest(shard) for shard in shards])
