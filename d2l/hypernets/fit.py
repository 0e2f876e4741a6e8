"""A network's name → its configuration, and the base that fits it, with its tokenizer.

The one place that goes from name to files to base. No weights are read, neither of the network nor
of the base; shapes of a base must fit the checkpoint, and its name should.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from d2l.bases.models import BaseFiles, find_base, same_model
from d2l.bases.tokenizers import BaseTokenizer, load_tokenizer
from d2l.errors import BaseModelError, CheckpointError
from d2l.hypernets.checkpoints import checkpoint_digest, list_warnings, read_config
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.registry import CheckpointFiles, find_checkpoint
from d2l.hypernets.seats.calibration import moments_path
from d2l.hypernets.seats.config import SeatsConfig

Config = TypeVar("Config", bound=HypernetConfig)


@dataclass(frozen=True)
class Kind(Generic[Config]):
    """A row of a table of kinds: what its owner must know of networks of one configuration."""

    config: type[Config]


Row = TypeVar("Row", bound=Kind[Any])


def find_row(rows: Sequence[Row], config: object) -> Row | None:
    """The row that a configuration belongs to; None where the table has none for it."""
    return next((row for row in rows if isinstance(config, row.config)), None)


@dataclass(frozen=True)
class Kinds(Generic[Config]):
    """The kinds of networks that a caller can use, and what it says of all others.

    `refusal` may name the network's {name}, {path} and {kind}. `reads`, where it matters, is what
    networks must have been trained to read: "documents" or "descriptions".
    """

    rows: Sequence[Kind[Config]]
    refusal: str
    hint: str | None = None
    reads: str | None = None

    def take(self, files: CheckpointFiles, config: HypernetConfig) -> Config:
        """The configuration as one of these kinds; raises CheckpointError."""
        # Seat networks say what they read; of all others the kind decides.
        trained = getattr(config, "reads", self.reads)
        reads = self.reads is None or trained in (self.reads, "both")
        if reads and find_row(self.rows, config) is not None:
            return cast(Config, config)
        says = self.refusal.format(name=files.name, path=files.path, kind=config.kind)
        raise CheckpointError(says, hint=self.hint)


@dataclass(frozen=True)
class OpenNetwork(Generic[Config]):
    """A network without its weights. Its base and tokenizer are looked for when first asked for,
    so a caller that needs the configuration alone waits for nothing else.

    `given` is where the user says that the base lies, if not where the checkpoint's name leads.
    """

    files: CheckpointFiles
    config: Config
    given: str | None = None
    offline: bool = False

    def find_base(self, *, config_only: bool = False) -> BaseFiles:
        """The base, not looked at yet: for callers that can do without it. Raises BaseModelError.

        With `config_only` nothing of it but its config is downloaded.
        """
        return find_base(
            self.config.base, override=self.given, offline=self.offline, config_only=config_only
        )

    def fit(self, base: BaseFiles) -> tuple[str, ...]:
        """Refuse a base of other shapes; warnings where it does not look like the right one."""
        own = list_warnings(self.files.path)
        fit = check_fit(self.config, base, given=self.given)
        return (*own, *fit, *self._warn_of_moments(base))

    def find_moments(self, base: BaseFiles) -> Path | None:
        """Second moments measured on a base that is not the file that the network's own are of."""
        if not self._is_another(base):
            return None
        path = moments_path(base=base.digest(), network=self.digest())
        return path if path.is_file() else None

    def _is_another(self, base: BaseFiles) -> bool:
        """Whether a base has other weights than those that the network's moments are of."""
        measured = getattr(self.config, "base_digest", "")  # of seat networks
        return bool(measured) and base.digest() != measured

    def _warn_of_moments(self, base: BaseFiles) -> list[str]:
        """What the user should know of a base with other weights than the network was made on."""
        if not self._is_another(base):
            return []
        if self.find_moments(base) is not None:
            return [
                "these weights of the base are not those of training: seats are made with the "
                "second moments that d2l calibrate measured on them"
            ]
        where = shlex.quote(self.given or self.config.base)
        name = shlex.quote(self.files.name)
        return [
            "these weights of the base are not those of training, so seats answer ordinary text "
            f"more than they should; measure it: d2l calibrate --checkpoint {name} --base {where}"
        ]

    @cached_property
    def base(self) -> BaseFiles:
        """The base, whose shapes fit; raises BaseModelError."""
        base = self.find_base()
        self.fit(base)
        return base

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the base."""
        return self.fit(self.base)

    @cached_property
    def tokenizer(self) -> BaseTokenizer:
        """The base's tokenizer."""
        return load_tokenizer(self.base.folder)

    def find_other(self, name: str, *, given: str | None = None) -> BaseFiles:
        """A second model that the network reads with, by the name that its configuration has."""
        return find_base(name, override=given, offline=self.offline)

    def digest(self) -> str:
        """SHA-256 of the network's weights file, in hex."""
        return checkpoint_digest(self.files.path)


def open_network(
    name: str, *, kinds: Kinds[Config], base: str | None = None, offline: bool = False
) -> OpenNetwork[Config]:
    """Find a checkpoint and read its configuration; raises CheckpointError, also for a kind of
    network that the caller cannot use."""
    files = find_checkpoint(name, offline=offline)
    return OpenNetwork(files, kinds.take(files, read_config(files.path)), base, offline)


def check_fit(config: HypernetConfig, base: BaseFiles, *, given: str | None = None) -> list[str]:
    """Refuse a base whose shapes differ from the checkpoint's; warn where only its name does.

    `given` is what the user called the base, which is what the warning calls it. Another warning is
    for a network that was trained on what a 4-bit model makes of a text: none is run here.
    """
    found = base.config
    family = base.family
    n_layers = int(found.num_hidden_layers)
    if n_layers != config.n_base_layers:
        raise BaseModelError(
            f"{base.folder}: has {n_layers} layers, the checkpoint is for {config.n_base_layers}",
            hint=f"the checkpoint needs {config.base}",
        )
    for module, expected in config.module_shapes.items():
        shape = family.module_shape(found, module)
        if shape != expected:
            raise BaseModelError(
                f"{base.folder}: {module} is {shape[0]} → {shape[1]}, "
                f"the checkpoint is for {expected[0]} → {expected[1]}",
                hint=f"the checkpoint needs {config.base}",
            )
    warnings = []
    if getattr(config, "encoder_quantized", False):  # of Doc-to-LoRA networks
        warnings.append(
            "the checkpoint was trained on the activations of a 4-bit model, and the base runs in "
            "full precision here: adapters come out close to the original's, not the same"
        )
    if same_model(config.base, base):
        return warnings
    where = given or base.gguf or base.folder
    return [
        *warnings,
        f"the checkpoint was trained for {config.base}, and {where} does not look like it: the "
        "shapes fit, so every runtime will accept the adapter, but answers may be nonsense",
    ]


#: The networks whose adapters hold a memory, which can be seated again.
SEATS = Kinds((Kind(SeatsConfig),), "{path}: is a {kind} network, which has no seats")
