"""`d2l.Compiler` and `d2l.TaskCompiler`: a network, loaded once, that makes adapters."""

import gc
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import torch

from d2l.api.adapter import Adapter
from d2l.bases.devices import is_cuda, pick_device
from d2l.compiler import run as pipeline
from d2l.compiler.chunk_cache import NOTHING, Cached, look_up
from d2l.compiler.plan import CompilePlan, TaskPlan, prepare, prepare_task
from d2l.datasets.examples import ExamplesLike, take_examples
from d2l.documents.intake import InputLike, ReadOptions, take_inputs
from d2l.errors import OptionError
from d2l.files.hub import Need
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.networks import fetch_weights, open_network
from d2l.hypernets.options import TASK_OPTIONS, CompileOptions, NetworkOptions, TaskCompileOptions
from d2l.hypernets.protocol import Loaded
from d2l.hypernets.registry import DEFAULT, at_revision
from d2l.memory import memory_errors
from d2l.progress import Progress, silent
from d2l.spelling import show_keywords

Options = TypeVar("Options", bound=NetworkOptions)
_KEYWORDS = CompileOptions.list_keywords()


class _Compiler(Generic[Options]):
    """A network that was found, and is loaded when it is first needed.

    Weights stay loaded. Not for several threads at once.
    """

    reads: ClassVar[str]
    usual: ClassVar[type[NetworkOptions]]

    def __init__(
        self,
        options: Options | None = None,
        *,
        need: Need = "weights",
        network: AnyNetwork | None = None,
    ) -> None:
        self.options: Options = options or self.usual()  # type: ignore[assignment]
        self.need = need  # "plan": no weights are downloaded, and none can be loaded
        self._opened = network  # with these options, perhaps without weights
        self._loaded: Loaded | None = None

    @cached_property
    def network(self) -> AnyNetwork:
        """The network without its weights: its files, its configuration, and its base."""
        options = self.options
        pick_device(options.device)  # refused before anything is downloaded
        network = self._opened
        if network is None:
            network = open_network(options.checkpoint, **options.locate(), need=self.need)
        elif self.need == "weights":
            network = fetch_weights(network)
        network.require(self.reads)
        return network.for_tasks() if self.reads == "descriptions" else network

    @memory_errors()
    def load(
        self, plan: CompilePlan, cached: Cached = NOTHING, *, watch: Progress = silent
    ) -> None:
        """Load the weights unless they are loaded, or `cached` leaves nothing to compute.

        A call loads, too. `cached` is the result of `look_up`; `watch` shows what is measured on a
        base that is new here. Raises D2LError.
        """
        self._refuse_others(plan)
        if self._loaded is None and cached.assembled is None:
            self._loaded = pipeline.load(plan, watch)

    def unload(self) -> None:
        """Let go of the network and its base; the next call loads them again."""
        self._loaded = None
        gc.collect()
        if is_cuda(pick_device(self.options.device)):
            torch.cuda.empty_cache()

    def look_up(self, plan: CompilePlan) -> Cached:
        """Look up what the cache holds for a plan made with `cache=True`; raises D2LError."""
        self._refuse_others(plan)
        return look_up(plan)

    @memory_errors()
    def run(
        self, plan: CompilePlan, *, watch: Progress = silent, cached: Cached | None = None
    ) -> Adapter:
        """Do what `plan` planned, as a call does; raises D2LError."""
        cached = self.look_up(plan) if cached is None else cached
        self.load(plan, cached)
        return Adapter.of(pipeline.run(plan, self._loaded, watch=watch, cached=cached))

    def _refuse_others(self, plan: CompilePlan) -> None:
        if (plan.checkpoint, plan.options.base) != (self.network.files, self.options.base):
            raise OptionError(
                f"the plan is for {plan.checkpoint.name}, and this compiler has "
                f"{self.network.files.name}",
                hint="plan with the compiler that is to compile",
            )


class Compiler(_Compiler[CompileOptions]):
    """Compiles documents: `plan` says what will be done, a call does it."""

    reads = "documents"
    usual = CompileOptions

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
        default, or that of `D2L_CHECKPOINT`. base: where the base lies (folder, GGUF file, alias
        or hub name), if not where the network says; alone, any base by its KV cache.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". dtype: that the base runs in, "bf16",
        "fp16" or "fp32"; None: as the network needs. revision: of the network's repository.
        local_files_only: open no socket.

        Raises CheckpointError, also for networks that read no documents, or BaseModelError for a
        device that is not there.
        """
        found = at_revision(name or DEFAULT, revision) if name or revision else ""
        device = pick_device(device)
        compiler = cls(CompileOptions(found, base, device, local_files_only, dtype))
        assert compiler.network  # found now, so that a wrong name is told at once
        return compiler

    @show_keywords(CompileOptions, *_KEYWORDS)
    def plan(
        self, inputs: InputLike | CompilePlan, *, reading: ReadOptions | None = None, **options: Any
    ) -> CompilePlan:
        """Plan the compilation of documents, without weights.

        inputs: as for `d2l.compile`, an `Intake`, which was read already, or a plan that was made
        without weights, whose documents are not cut again. reading: formats, encodings and limits.
        Further keywords: options of one adapter, as for `d2l.compile`.
        The plan has `chunks`, `rank`, `file_rank`, `adapter_bytes` and `warnings`.
        Raises DocumentError, BaseModelError or OptionError, and TypeError for other keywords.
        """
        changed = self.options.changed(**options)
        if isinstance(inputs, CompilePlan):
            return replace(inputs, network=self.network, options=changed)
        return prepare(take_inputs(inputs, reading or ReadOptions()), changed, self.network)

    @show_keywords(CompileOptions, *_KEYWORDS)
    def __call__(
        self,
        inputs: InputLike | CompilePlan,
        *,
        reading: ReadOptions | None = None,
        watch: Progress = silent,
        cached: Cached | None = None,
        **options: Any,
    ) -> Adapter:
        """Compile documents, or do what `plan` planned; an adapter in memory.

        inputs, reading and keywords: as for `plan`; a plan has its own. watch: gets the chunks and
        a label, gives the chunks, and may show the progress. cached: the result of `look_up` for
        the plan; with all of it in the cache, no weights are loaded. One chunk's activations are
        on the device at a time. Raises D2LError.
        """
        if isinstance(inputs, CompilePlan):
            if options or reading is not None:
                raise OptionError("a plan has its options already", hint="plan with others")
            plan = inputs
        else:
            plan = self.plan(inputs, reading=reading, **options)
        return self.run(plan, watch=watch, cached=cached)


class TaskCompiler(_Compiler[TaskCompileOptions]):
    """Makes adapters from task descriptions: `plan` says what will be done, a call does it."""

    reads = "descriptions"
    usual = TaskCompileOptions

    @classmethod
    def from_pretrained(
        cls,
        name: str | None = None,
        *,
        base: str | None = None,
        embedder: str | None = None,
        device: str = "auto",
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> "TaskCompiler":
        """Find a network that reads descriptions; its files are downloaded, no weights read.

        name: an alias (`d2l checkpoints ls`), folder or org/repo[:subfolder]; None: the default.
        base, embedder: where they lie, if not where the network says; a base alone is read by its
        KV cache. device, revision, local_files_only: as for `Compiler`.

        Raises CheckpointError, also for networks that read documents alone, or BaseModelError.
        """
        found = at_revision(name or DEFAULT, revision) if name or revision else ""
        device = pick_device(device)
        compiler = cls(TaskCompileOptions(found, base, device, local_files_only, embedder=embedder))
        assert compiler.network.reader  # found now, so that what does not fit is told at once
        return compiler

    @show_keywords(TaskCompileOptions, *TASK_OPTIONS)
    def plan(
        self,
        description: str,
        *,
        examples: ExamplesLike | None = None,
        **options: Any,
    ) -> TaskPlan:
        """Plan the adapter of a task description, a sentence or two, without weights.

        examples: solved ones, (input, output) each, or a file of them (`read_examples`); the
        network reads a few, as turns of a chat.
        Keywords: `scaling` and `dtype` of `TaskCompileOptions`.
        Raises DescriptionError, TaskError for examples, CheckpointError, BaseModelError or
        OptionError, and TypeError for other keywords.
        """
        given = None if examples is None else take_examples(examples)
        changed = self.options.changed(**options)
        return prepare_task(description, changed, self.network, given)

    @show_keywords(TaskCompileOptions, *TASK_OPTIONS)
    def __call__(
        self,
        description: str | TaskPlan,
        *,
        watch: Progress = silent,
        cached: Cached | None = None,
        **options: Any,
    ) -> Adapter:
        """Make the adapter of a description, or of what `plan` planned; in memory. Keywords are
        those of `plan`; watch and cached: as for `Compiler`.

        Its provenance has `warnings`. Raises DescriptionError or another D2LError.
        """
        if isinstance(description, TaskPlan):
            if options:
                raise OptionError("a plan has its options already", hint="plan with others")
            plan = description
        else:
            plan = self.plan(description, **options)
        return self.run(plan, watch=watch, cached=cached)
