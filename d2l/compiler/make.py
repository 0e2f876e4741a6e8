"""Task description → adapter: `prepare()` returns a plan, `load()` a maker of adapters in memory.

No weights of the base are loaded unless the base itself embeds descriptions. Writes nothing, prints
nothing.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TypedDict

from d2l.adapters.peft_folder import AdapterContent, pick_torch_dtype
from d2l.bases.embedders import Embedder, load_embedders
from d2l.bases.models import BaseFiles, pick_device
from d2l.compiler import make_card, privacy
from d2l.compiler.records import Made, describe_make
from d2l.datasets.descriptions import check_description
from d2l.errors import BaseModelError, CheckpointError, DescriptionError, OptionError
from d2l.hypernets.checkpoints import checkpoint_digest, load_text_to_lora
from d2l.hypernets.fit import Kind, Kinds, OpenNetwork, open_network
from d2l.hypernets.registry import DEFAULT_TEXT, CheckpointFiles
from d2l.hypernets.text_to_lora.familiarity import LEAST_FAMILIAR, Familiarity, read_familiarity
from d2l.hypernets.text_to_lora.network import TextToLora, TextToLoraConfig

#: The networks that read descriptions of tasks.
DESCRIPTIONS = Kinds(
    (Kind(TextToLoraConfig),),
    "{path}: is a {kind} network, which reads documents and no descriptions",
    "use d2l compile, or name a Text-to-LoRA checkpoint",
)
#: The factor of b @ a: alpha / rank, or what the checkpoint's own adapters declare.
SCALINGS = ("standard", "config")


@dataclass(frozen=True)
class MakeOptions:
    """What the user may choose; the defaults are those of the command line.

    `scaling` is "standard", alpha / rank, or "config", what the checkpoint's own adapters declare.
    `strict` refuses descriptions that are unlike those of training, instead of a warning.
    """

    checkpoint: str = DEFAULT_TEXT
    base: str | None = None  # where the base lies, if not where the checkpoint's name leads
    embedder: str | None = None  # the same for the embedder
    device: str = "auto"
    scaling: str = "standard"
    dtype: str = "bf16"  # of the written adapter; a key of peft_folder.DTYPES
    offline: bool = False
    strict: bool = False


class MakeWishes(TypedDict, total=False):
    """What may be wished for of one adapter, as keywords of `TaskCompiler.plan`.

    scaling: the factor of the delta: "standard" (the default), alpha / rank, or "config", what the
    checkpoint's own adapters declare.
    strict: refuse a description that is unlike those of training, instead of a warning.
    dtype: what the weights are written in: "bf16" (the default), "fp16" or "fp32".
    """

    scaling: str
    strict: bool
    dtype: str


@dataclass(frozen=True)
class MakePlan:
    """Everything that is decided before weights are loaded; `warnings` are for the user."""

    checkpoint: CheckpointFiles
    config: TextToLoraConfig
    base: BaseFiles | None  # None: its config is not at hand, and nothing else of it is needed
    embedder: BaseFiles | None  # None: the base embeds
    options: MakeOptions
    warnings: tuple[str, ...] = ()
    familiarity: Familiarity | None = None  # None: the checkpoint does not say what it knows
    description: str | None = None  # None: not known yet, or many

    def describing(self, description: str) -> "MakePlan":
        """The same for a description; raises DescriptionError where it cannot be used."""
        return replace(self, description=check_description(description))

    @property
    def scale(self) -> float:
        """Factor of b @ a in the adapters; it is folded into b when they are written."""
        return self.config.scaling(own=self.options.scaling == "config")

    @property
    def embedder_name(self) -> str:
        """What embeds descriptions, as the checkpoint names it."""
        return self.config.embedder or self.config.base


def prepare(options: MakeOptions) -> MakePlan:
    """Find the checkpoint, its base's config and its embedder, and check that they fit.

    The plan is for any description (`describing` names one). Raises CheckpointError, BaseModelError
    or OptionError with what to do about it.
    """
    pick_torch_dtype(options.dtype)  # refuses what is none
    if options.scaling not in SCALINGS:
        raise OptionError(
            f"unknown scaling {options.scaling!r}", hint=f"choose from {', '.join(SCALINGS)}"
        )
    network = open_network(
        options.checkpoint, kinds=DESCRIPTIONS, base=options.base, offline=options.offline
    )
    checkpoint, config = network.files, network.config
    base, warnings = _find_base(network)
    embedder = None
    if config.embedder is not None:
        embedder = network.find_other(config.embedder, given=options.embedder)
    elif options.embedder is not None:
        raise BaseModelError(
            f"{checkpoint.name}: its base embeds descriptions, so there is no other embedder",
            hint="leave --embedder out, or say where the base lies with --base",
        )
    familiarity = _find_familiarity(checkpoint, config)
    if options.strict and familiarity is None:
        raise CheckpointError(
            f"{checkpoint.name}: does not say which descriptions it was trained on",
            hint="leave --strict out, which has nothing to compare with",
        )
    return MakePlan(checkpoint, config, base, embedder, options, warnings, familiarity)


def _find_familiarity(checkpoint: CheckpointFiles, config: TextToLoraConfig) -> Familiarity | None:
    """What lies beside the weights of networks that d2l trained."""
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    return read_familiarity(folder, config.embedding_size)


def _find_base(
    network: OpenNetwork[TextToLoraConfig],
) -> tuple[BaseFiles | None, tuple[str, ...]]:
    """The base, and warnings. Where it does not embed, only its config is looked at, and only
    where it is at hand: adapters for a gated base can be made without access to it."""
    embeds = network.config.embedder is None
    try:
        base = network.find_base(config_only=not embeds)
    except BaseModelError:
        if embeds or network.given is not None:
            raise
        name = network.config.base
        return None, (
            f"the config of {name} is not at hand, so it was not checked that the adapter's shapes "
            "fit",
        )
    return base, network.fit(base)


class Maker:
    """A loaded embedder and network: many descriptions, loaded once."""

    def __init__(
        self, plan: MakePlan, embedder: Embedder, judge: Embedder, network: TextToLora
    ) -> None:
        self._embedder = embedder  # for the network
        self._judge = judge  # for the familiarity
        self._network = network
        self._digest = checkpoint_digest(plan.checkpoint.path)
        # Weights of the base take part only where it embeds.
        embeds = plan.embedder is None and plan.base is not None
        self._base_digest = plan.base.digest() if embeds and plan.base is not None else None

    def make(self, plan: MakePlan) -> AdapterContent:
        """The adapter of a plan's description, in memory; raises D2LError."""
        options, text = plan.options, plan.description
        if text is None:
            raise OptionError("the plan has no description", hint="plan with one")
        embedding = self._embedder.embed(text)
        familiarity = None
        if plan.familiarity is not None:
            same = self._judge is self._embedder or plan.familiarity.direction is not None
            familiarity = plan.familiarity.measure(embedding if same else self._judge.embed(text))
        unlike = _warn_unlike(plan, familiarity)
        if unlike and options.strict:
            raise DescriptionError(unlike[0], hint="say what the task is, or leave --strict out")
        embedding = embedding.to(next(self._network.parameters()).device)
        own = options.scaling == "config"
        weights = self._network.generate(embedding, own_scaling=own)
        made = Made(
            text=text,
            text_sha256=hashlib.sha256(text.encode("utf-8")).hexdigest(),
            checkpoint=plan.checkpoint.name,
            checkpoint_sha256=self._digest,
            base_sha256=self._base_digest,
            embedder=plan.embedder_name,
            scaling=options.scaling,
            dtype=options.dtype,
            familiarity=familiarity,
            warnings=(*plan.warnings, *unlike, *self._warn_long(text)),
        )
        names = privacy.name_places(plan.checkpoint.name, options.base)
        if PurePath(plan.embedder_name).is_absolute():  # else the checkpoint's name for all
            names |= privacy.name_places(plan.embedder_name)
        provenance = describe_make(made, plan.config, weights)
        written = make_card.write_card(made, plan.config)
        return AdapterContent(
            weights=weights,
            n_base_layers=plan.config.n_base_layers,
            provenance=privacy.redact_provenance(provenance, names),
            texts={make_card.CARD: privacy.redact(written, names)},
            dtype=options.dtype,
            name="task.lora",
        )

    def _warn_long(self, text: str) -> list[str]:
        n_left_out = self._embedder.count_left_out(text)
        if not n_left_out:
            return []
        window = self._embedder.window
        return [
            f"{self._embedder.name} reads {window:,} tokens; the last {n_left_out:,} of the "
            "description are left out"
        ]


def load(plan: MakePlan) -> Maker:
    """Load embedder and network; raises D2LError, also where the one does not fit the other."""
    device = pick_device(plan.options.device)
    embedder, judge = load_embedders(
        plan.base, plan.embedder, as_questions=plan.config.embeds_question, device=device
    )
    width = len(embedder.embed("Answer the question."))
    if width != plan.config.embedding_size:
        raise BaseModelError(
            f"{embedder.name}: embeddings are {width} wide, the checkpoint reads "
            f"{plan.config.embedding_size}",
            hint=f"the checkpoint reads descriptions with {plan.embedder_name}",
        )
    return Maker(plan, embedder, judge, load_text_to_lora(plan.checkpoint.path, device=device))


def _warn_unlike(plan: MakePlan, familiarity: float | None) -> list[str]:
    if familiarity is None or familiarity >= LEAST_FAMILIAR:
        return []
    return [
        f"the description is unlike those that {plan.checkpoint.name} was trained on "
        f"(familiarity {familiarity:.2f}, below {LEAST_FAMILIAR:g}), so its adapter may do "
        "anything"
    ]
