"""How a seat network makes an adapter: it reads a task's description as if it were a document.

Seats are allotted by the network's own rule, one a token while `dense_seats` go: so descriptions
were read in training, and a description leaves the opening the room that a document of its length
would, for whatever it is merged with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from d2l.adapters.lowest_rank import lower_content
from d2l.adapters.peft_folder import AdapterContent
from d2l.bases.activations import Activations
from d2l.bases.models import BaseFiles
from d2l.compiler import make_card, privacy, seats
from d2l.compiler import run as pipeline
from d2l.compiler.make_kind import MakeKind
from d2l.compiler.make_plan import MakeOptions, MakePlan, find_familiarity, warn_unlike
from d2l.compiler.options import CompileOptions
from d2l.compiler.plan import CompilePlan
from d2l.compiler.plan import prepare as prepare_compiling
from d2l.compiler.records import Made, describe_reading
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.errors import BaseModelError, OptionError
from d2l.files.places import remember
from d2l.hypernets.checkpoints import checkpoint_digest
from d2l.hypernets.fit import OpenNetwork
from d2l.hypernets.protocol import Assembled
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.describing import embed

#: Read where weights are loaded before any description is known.
_ANY = "Answer the question."
_SHORT = 160  # tokens with the opening's of what is read beside others: longer ones gain little
_LONGEST_NAME = 60  # characters of what a description is called beside documents


@dataclass(frozen=True)
class SeatsPlan(MakePlan):
    """A plan with its network, and what compiling the description will do once it is known."""

    config: SeatsConfig
    base: BaseFiles
    network: OpenNetwork[SeatsConfig] | None = None  # `prepare` sets it
    compiling: CompilePlan | None = None

    def describing(self, description: str) -> "SeatsPlan":
        """The same for a description, which is cut into chunks; raises DescriptionError."""
        plan = super().describing(description)
        assert plan.description is not None
        return replace(plan, compiling=plan_reading(plan, plan.description))

    @property
    def rank(self) -> int | None:
        """The description's seats."""
        return None if self.compiling is None else self.compiling.rank

    @property
    def scale(self) -> float:
        """Seats are solved for, with nothing to scale."""
        return 1.0


def prepare(network: OpenNetwork[SeatsConfig], options: MakeOptions) -> SeatsPlan:
    """Refuse what seats have not, and find the base, which reads; raises D2LError."""
    name = network.files.name
    if options.scaling != "standard":
        raise OptionError(
            f"{name}: is a seat network, whose adapters have one scaling alone",
            hint="leave --scaling out",
        )
    if options.embedder is not None:
        raise BaseModelError(
            f"{name}: its base reads descriptions, so there is no other embedder",
            hint="leave --embedder out, or say where the base lies with --base",
        )
    familiarity = find_familiarity(network.files, network.config.hidden, options)
    seats.find_reader(network)  # refuses a base that does not fit
    return SeatsPlan(
        network.files,
        network.config,
        network.base,
        options,
        tuple(network.warnings),
        familiarity=familiarity,
        network=network,
    )


def plan_reading(plan: SeatsPlan, text: str) -> CompilePlan:
    """What compiling a description will do, as if it were a document; raises D2LError."""
    options = plan.options
    compiling = CompileOptions(
        checkpoint=options.checkpoint,
        base=options.base,
        device=options.device,
        dtype=options.dtype,
        offline=options.offline,
    )
    document = Document.from_text(text, name=name_task(text))
    return prepare_compiling(Intake((document,)), compiling, network=plan.network)


def name_task(text: str) -> str:
    """What a description is called where documents have names: its own beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1].rstrip()}…"


_Computed = tuple[Activations, Assembled]


@dataclass(frozen=True)
class SeatsMaker:
    """A `Maker`: a loaded base and seat network."""

    loaded: pipeline.Loaded
    checkpoint_sha256: str
    #: What was computed ahead, by the tokens of the description.
    _ahead: dict[tuple[int, ...], _Computed] = field(default_factory=dict)

    def make_ahead(self, plans: Sequence[MakePlan]) -> None:
        """See `Maker`: short descriptions are read together, and seated."""
        readings: dict[tuple[int, ...], CompilePlan] = {}
        for plan in plans:
            assert isinstance(plan, SeatsPlan)  # `load` had one
            compiling = plan.compiling
            if compiling is not None and len(compiling.chunks) == 1:
                readings[tuple(compiling.chunks[0].token_ids)] = compiling
        readings = {ids: compiling for ids, compiling in readings.items() if len(ids) <= _SHORT}
        if len(readings) < 2:  # alone there is nothing to share
            return
        read = self.loaded.encode.read_together(list(readings))
        made = pipeline.assemble_each(list(readings.values()), self.loaded, read)
        self._ahead.update(zip(readings, zip(read, made, strict=True), strict=True))

    def make(self, plan: MakePlan) -> AdapterContent:
        """The adapter of a plan's description, in memory; raises D2LError."""
        assert isinstance(plan, SeatsPlan)  # `load` had one
        text, compiling = plan.description, plan.compiling
        if text is None or compiling is None:
            raise OptionError("the plan has no description", hint="plan with one")
        token_ids = compiling.chunks[0].token_ids
        read, assembled = self._ahead.pop(tuple(token_ids), (None, None))
        read = read or self.loaded.encode(token_ids)
        familiarity = None
        if plan.familiarity is not None:
            familiarity = plan.familiarity.measure(embed(read, plan.config))
        unlike = warn_unlike(plan, familiarity)
        assembled = assembled or pipeline.assemble(compiling, self.loaded, first=read)
        made = Made(
            text=text,
            text_sha256=compiling.documents[0].digest,
            checkpoint=plan.checkpoint.name,
            checkpoint_sha256=self.checkpoint_sha256,
            base_sha256=plan.base.digest(),
            embedder=plan.embedder_name,
            scaling=plan.options.scaling,
            dtype=plan.options.dtype,
            familiarity=familiarity,
            warnings=(*plan.warnings, *unlike, *_warn_long(plan.config, compiling)),
        )
        names = privacy.name_places(plan.checkpoint.name, plan.options.base)
        provenance = describe_reading(compiling, assembled, made)
        card = make_card.write_seats_card(made, plan.config, compiling.rank)
        remember({self.checkpoint_sha256: plan.checkpoint.path})
        return lower_content(
            AdapterContent(
                weights=assembled.weights,
                n_base_layers=plan.config.n_base_layers,
                provenance=privacy.redact_provenance(provenance, names),
                memory=assembled.memory,
                texts={
                    **seats.write_texts(plan.config, compiling.rank, plan.base),
                    make_card.CARD: privacy.redact(card, names),
                },
                dtype=plan.options.dtype,
                name="task.lora",
            )
        )


def _warn_long(config: SeatsConfig, compiling: CompilePlan) -> list[str]:
    """Say where a description has more tokens than seats can hold."""
    leading = len(config.read_opening)
    n_tokens = sum(len(chunk.token_ids) - leading for chunk in compiling.chunks)
    if n_tokens <= config.held_tokens:
        return []
    return [
        f"the description has {n_tokens:,} tokens and this network holds about "
        f"{config.held_tokens:,}: say in a sentence or two what the task is"
    ]


def load(plan: SeatsPlan) -> SeatsMaker:
    """Load base and network; raises D2LError."""
    compiling = plan.compiling or plan_reading(plan, _ANY)
    return SeatsMaker(pipeline.load(compiling), checkpoint_digest(plan.checkpoint.path))


KIND = MakeKind(config=SeatsConfig, prepare=prepare, load=load)
