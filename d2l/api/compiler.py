"""`d2l.Compiler`: a network and its base, loaded once, that compile documents into adapters."""

from functools import cached_property
from typing import Any, Unpack

from d2l.api.adapter import Adapter
from d2l.bases.models import pick_device
from d2l.compiler import run as pipeline
from d2l.compiler.options import CompileOptions, PlanWishes
from d2l.compiler.part_cache import NOTHING, Found
from d2l.compiler.plan import CompilePlan, open_compiler, prepare
from d2l.documents.intake import InputLike, ReadOptions, take_inputs
from d2l.errors import OptionError
from d2l.hypernets.fit import OpenNetwork
from d2l.hypernets.registry import at_revision, default_checkpoint
from d2l.progress import Progress, silent


class Compiler:
    """Compiles documents: `plan` says what will be done, a call does it.

    Weights are loaded with the first adapter, and stay. Not for several threads at once.
    """

    def __init__(self, options: CompileOptions | None = None) -> None:
        self.options = options or CompileOptions()
        self._loaded: pipeline.Loaded | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str | None = None,
        *,
        base: str | None = None,
        device: str = "auto",
        dtype: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> "Compiler":
        """Find a network that reads documents; its files are downloaded, none of its weights read.

        name: an alias (`d2l checkpoints ls`), folder, file or org/repo[:subfolder]; None: the
        default, that of `D2L_CHECKPOINT` where it is set. base: where the base lies (folder, GGUF
        file, alias or hub name), if not where the network says. device: "auto", "cpu", "cuda",
        "cuda:N" or "mps". dtype: that the base runs in, "bf16", "fp16" or "fp32"; None: as the
        network needs. revision: of the network's repository. local_files_only: open no socket.

        Raises CheckpointError, also for networks that read no documents, or BaseModelError for a
        device that is not there.
        """
        compiler = cls(
            CompileOptions(
                checkpoint=at_revision(default_checkpoint() if name is None else name, revision),
                base=base,
                device=pick_device(device),
                offline=local_files_only,
                base_dtype=dtype,
            )
        )
        assert compiler.network  # found now, so that a wrong name is told at once
        return compiler

    @cached_property
    def network(self) -> OpenNetwork[Any]:
        """The network without its weights: its files, its configuration, and its base."""
        return open_compiler(self.options)

    def plan(
        self,
        inputs: InputLike,
        *,
        reading: ReadOptions | None = None,
        **wishes: Unpack[PlanWishes],
    ) -> CompilePlan:
        """What compiling these documents will do, without weights.

        inputs: as for `d2l.compile`, or an `Intake`, which was read already. reading: formats,
        encodings and limits.
        Keywords: `PlanWishes`. The plan has `chunks`, `rank`, `file_rank`, `adapter_bytes` and
        `warnings`.
        Raises DocumentError, BaseModelError or OptionError.
        """
        intake = take_inputs(inputs, reading or ReadOptions())
        return prepare(intake, self.options.changed(**wishes), network=self.network)

    def look_up(self, plan: CompilePlan) -> Found:
        """What the cache holds for a plan that was made with `cache=True`; raises D2LError."""
        self._refuse_others(plan)
        return pipeline.look_up(plan)

    def load(self, plan: CompilePlan, found: Found = NOTHING) -> None:
        """Load the weights, where they are not yet and where `found`, what `look_up` gave, leaves
        something to compute; a call does it, too. Raises D2LError."""
        self._refuse_others(plan)
        if self._loaded is None and pipeline.needs_weights(plan, found):
            self._loaded = pipeline.load(plan)

    def _refuse_others(self, plan: CompilePlan) -> None:
        if (plan.checkpoint, plan.options.base) != (self.network.files, self.options.base):
            raise OptionError(
                f"the plan is for {plan.checkpoint.name}, and this compiler has "
                f"{self.network.files.name}",
                hint="plan with the compiler that is to compile",
            )

    def __call__(
        self,
        inputs: InputLike | CompilePlan,
        *,
        reading: ReadOptions | None = None,
        watch: Progress = silent,
        found: Found | None = None,
        **wishes: Unpack[PlanWishes],
    ) -> Adapter:
        """Compile documents, or do what `plan` planned; an adapter in memory.

        inputs, reading and keywords: as for `plan`; a plan has its own. watch: is given the chunks
        and a label, gives the chunks, and may show how far it is. found: what `look_up` gave for
        the plan; with all of it in the cache, no weights are loaded. One chunk's activations are on
        the device at a time. Raises D2LError.
        """
        if isinstance(inputs, CompilePlan):
            if wishes or reading is not None:
                raise OptionError("a plan has its options already", hint="plan with others")
            plan = inputs
        else:
            plan = self.plan(inputs, reading=reading, **wishes)
        found = self.look_up(plan) if found is None else found
        self.load(plan, found)
        return Adapter.of(pipeline.run(plan, self._loaded, watch=watch, found=found))
