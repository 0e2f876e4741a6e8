"""`d2l.TaskCompiler`: a network, loaded once, that makes adapters from task descriptions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from d2l.api.adapter import Adapter
from d2l.bases.models import pick_device
from d2l.compiler import make as pipeline
from d2l.compiler.make import MakeOptions, MakePlan, MakeWishes
from d2l.errors import OptionError
from d2l.hypernets.registry import DEFAULT_TEXT, at_revision


class TaskCompiler:
    """Makes adapters from descriptions: `plan` says what will be done, a call does it.

    Embedder and network are loaded with the first adapter, and stay.
    """

    def __init__(self, options: MakeOptions | None = None) -> None:
        self.options = options or MakeOptions()
        self._maker: pipeline.Maker | None = None
        self._plan: MakePlan | None = None  # the last one

    @classmethod
    def from_pretrained(
        cls,
        name: str = DEFAULT_TEXT,
        *,
        base: str | None = None,
        embedder: str | None = None,
        device: str = "auto",
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> "TaskCompiler":
        """Find a network that reads descriptions; its files are downloaded, no weights read.

        name: an alias (`d2l checkpoints ls`), folder or org/repo[:subfolder]. base, embedder: where
        they lie, if not where the network says. device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        revision: of the network's repository. local_files_only: open no socket.

        Raises CheckpointError, also for networks that read documents alone, or BaseModelError.
        """
        maker = cls(
            MakeOptions(
                checkpoint=at_revision(name, revision),
                base=base,
                embedder=embedder,
                device=pick_device(device),
                offline=local_files_only,
            )
        )
        maker.plan()  # found now, so that a wrong name is told at once
        return maker

    def plan(self, description: str | None = None, **wishes: Unpack[MakeWishes]) -> MakePlan:
        """What making an adapter will do, without weights: its rank, scale and warnings.

        description: of the task, a sentence or two; None: any. Keywords: `MakeWishes`. Raises
        DescriptionError, CheckpointError, BaseModelError or OptionError.
        """
        options = replace(self.options, **wishes)
        if self._plan is None or self._plan.options != options:
            self._plan = pipeline.prepare(options)
        return self._plan if description is None else self._plan.describing(description)

    def load(self, plan: MakePlan) -> None:
        """Load the weights, where they are not yet; a call does it, too. Raises D2LError."""
        if replace(plan.options, **_ANY) != replace(self.options, **_ANY):
            raise OptionError(
                f"the plan is for {plan.checkpoint.name} as another compiler has it",
                hint="plan with the compiler that is to make it",
            )
        if self._maker is None:
            self._maker = pipeline.load(plan)

    def __call__(self, description: str | MakePlan, **wishes: Unpack[MakeWishes]) -> Adapter:
        """Make the adapter of a description, or of what `plan` planned; in memory.

        What should be known of it stands in its provenance's `warnings`, and how alike the
        description is to those of training in `description.familiarity`, from 0 to 1. Raises
        DescriptionError, also with `strict` for one that is unlike them, or another D2LError.
        """
        if isinstance(description, MakePlan):
            if wishes:
                raise OptionError("a plan has its options already", hint="plan with others")
            plan = description
        else:
            plan = self.plan(description, **wishes)
        self.load(plan)
        assert self._maker is not None
        return Adapter.of(self._maker.make(plan))

    def make_ahead(self, plans: Sequence[MakePlan]) -> None:
        """Compute at one go what several plans need; calls with them are faster for it.

        What is computed is kept in memory until they are called with. Shorter descriptions cost as
        much as the longest of those that they are given with. The adapters are the same as without
        but for rounding: a part in a million of the weights, before these are rounded to what is
        written. Raises D2LError.
        """
        if plans:
            self.load(plans[0])
            assert self._maker is not None
            self._maker.make_ahead(plans)


#: What may differ from one plan of a compiler to the next.
_ANY = MakeWishes(scaling="standard", strict=False, dtype="bf16")
