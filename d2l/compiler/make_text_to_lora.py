"""How a Text-to-LoRA network makes an adapter: from the embedding of a description.

No weights of the base are loaded unless the base itself embeds descriptions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from d2l.adapters.peft_folder import AdapterContent
from d2l.bases.embedders import Embedder, load_embedders
from d2l.bases.models import BaseFiles, pick_device
from d2l.compiler import make_card, privacy
from d2l.compiler.make_kind import MakeKind
from d2l.compiler.make_plan import MakeOptions, MakePlan, find_familiarity, warn_unlike
from d2l.compiler.records import Made, describe_make
from d2l.errors import BaseModelError, OptionError
from d2l.hypernets.checkpoints import checkpoint_digest, load_text_to_lora
from d2l.hypernets.fit import OpenNetwork
from d2l.hypernets.text_to_lora.network import TextToLora, TextToLoraConfig


@dataclass(frozen=True)
class TextPlan(MakePlan):
    """A plan with what embeds descriptions."""

    config: TextToLoraConfig
    embedder: BaseFiles | None = None  # None: the base embeds

    @property
    def rank(self) -> int:
        """That of the network, whatever the description."""
        return self.config.rank

    @property
    def scale(self) -> float:
        """Alpha / rank, or what the checkpoint's own adapters declare."""
        return self.config.scaling(own=self.options.scaling == "config")

    @property
    def embedder_name(self) -> str:
        """What embeds descriptions, as the checkpoint names it."""
        return self.config.embedder or self.config.base


def prepare(network: OpenNetwork[TextToLoraConfig], options: MakeOptions) -> TextPlan:
    """Find the base's config and the embedder, and check that they fit; raises D2LError."""
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
    familiarity = find_familiarity(checkpoint, config.embedding_size, options)
    return TextPlan(
        checkpoint, config, base, options, warnings, familiarity=familiarity, embedder=embedder
    )


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


class TextMaker:
    """A `Maker`: a loaded embedder and network."""

    def __init__(
        self, plan: TextPlan, embedder: Embedder, judge: Embedder, network: TextToLora
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
        assert isinstance(plan, TextPlan)  # `load` had one
        options, text = plan.options, plan.description
        if text is None:
            raise OptionError("the plan has no description", hint="plan with one")
        embedding = self._embedder.embed(text)
        familiarity = None
        if plan.familiarity is not None:
            same = self._judge is self._embedder or plan.familiarity.direction is not None
            familiarity = plan.familiarity.measure(embedding if same else self._judge.embed(text))
        unlike = warn_unlike(plan, familiarity)
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

    def make_ahead(self, plans: Sequence[MakePlan]) -> None:
        """See `Maker`: nothing, as each is quick alone."""

    def _warn_long(self, text: str) -> list[str]:
        n_left_out = self._embedder.count_left_out(text)
        if not n_left_out:
            return []
        window = self._embedder.window
        return [
            f"{self._embedder.name} reads {window:,} tokens; the last {n_left_out:,} of the "
            "description are left out"
        ]


def load(plan: TextPlan) -> TextMaker:
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
    return TextMaker(plan, embedder, judge, load_text_to_lora(plan.checkpoint.path, device=device))


KIND = MakeKind(config=TextToLoraConfig, prepare=prepare, load=load)
