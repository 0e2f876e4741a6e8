"""A task description → adapter: it is compiled like a document, and recorded as a description.

`prepare` gives a plan, `run` the adapter in memory. Writes nothing, prints nothing.
"""

from dataclasses import replace

from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import Description, ExamplesRecord
from d2l.compiler.chunk_cache import lay_out, lay_out_lora
from d2l.compiler.content import make_described
from d2l.compiler.plan import TaskPlan
from d2l.datasets.descriptions import check_description
from d2l.datasets.examples import ExampleFile, pair_up
from d2l.datasets.tasks import list_labels
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.errors import OptionError
from d2l.files.paths import remember
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.options import TaskCompileOptions
from d2l.hypernets.protocol import Loaded

_LONGEST_NAME = 60  # characters of a description's name beside documents


def prepare(
    text: str,
    options: TaskCompileOptions,
    network: AnyNetwork,
    examples: ExampleFile | None = None,
    *,
    keep_examples: bool = False,
) -> TaskPlan:
    """Plan the adapter of a task description, and of examples if there are any; `keep_examples`
    puts the chosen ones into d2l.json.

    Raises DescriptionError, CheckpointError, BaseModelError, TaskError or OptionError.
    """
    text = check_description(text)
    network.require("descriptions")
    assert network.reader  # refuses a model that does not fit
    if options.scaling != "standard" and network.explain_scale(options.scaling) is None:
        raise OptionError(
            f"{network.files.name}: its adapters have one scaling alone", hint="leave --scaling out"
        )
    scaling, settings = options.scaling, options.as_document()
    intake = Intake((Document.from_text(text, name=name_task(text)),))
    if examples is None:
        cut = network.cut(intake.documents, settings)
        return TaskPlan(network, cut, intake, settings, network.warnings, scaling)
    cut, indices = network.cut_examples(intake.documents[0], examples.examples)
    record = ExamplesRecord(
        sha256=examples.sha256, n=len(examples.examples), rows=tuple(n + 1 for n in indices)
    )
    if keep_examples:
        texts = tuple(pair_up([examples.examples[n] for n in indices]))
        record = record.model_copy(update={"texts": texts})
    warnings = (*network.warnings, *_warn_unread(examples, record))
    return TaskPlan(network, cut, intake, settings, warnings, scaling, record)


def _warn_unread(file: ExampleFile, record: ExamplesRecord) -> list[str]:
    """Warn of labels without a chosen example."""
    read = {file.examples[row - 1].outputs[0] for row in record.rows}
    missing = [label for label in list_labels(file.examples) if label not in read]
    if not missing:
        return []
    return [f"no example of {', '.join(map(repr, missing))} fits: the adapter sees none"]


def name_task(text: str) -> str:
    """Name a description by its own beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1].rstrip()}…"


def run(plan: TaskPlan, loaded: Loaded) -> AdapterContent:
    """Make the adapter of a description, in memory, with the network of `run.load`.

    Raises D2LError.
    """
    (document,) = plan.documents
    reading = loaded.read_task(document, plan.chunks, has_examples=plan.examples is not None)
    warnings = (*plan.warnings, *reading.warnings)
    assembled = loaded.assemble(list(map(lay_out, reading.written)), plan.options)
    description = Description(text=document.text, sha256=document.digest, embedder=reading.embedder)
    if plan.examples is not None:
        description = description.model_copy(update={"examples": plan.examples})
    weights, scale = lay_out_lora(assembled.weights), plan.network.explain_scale(plan.scaling)
    weights = weights if scale is None else replace(weights, scale=scale[0])
    assembled = replace(assembled, weights=weights)
    remember(plan.network.list_paths())
    return make_described(replace(plan, warnings=warnings), assembled, description)
