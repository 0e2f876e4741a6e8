"""An adapter's numbers and its documents → better numbers, by a few gradient steps.

The values of its seats move, or A and B. The adapter is drilled with questions from the documents'
own text; a memory learns them as a teacher answers them. General prompts hold it to the base. The
result is never worse than the start, judged by held-out questions, some drilled ones and harm.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from d2l.adapters.provenance import Refinement
from d2l.bases import devices
from d2l.bases.chat import make_chat
from d2l.bases.models import BaseFiles, load_causal, read_out
from d2l.bases.tokenizers import BaseTokenizer, load_tokenizer
from d2l.documents.document import Document
from d2l.hypernets.protocol import Assembled, Hypernetwork
from d2l.hypernets.seats.network import Seats
from d2l.progress import Progress, silent
from d2l.questions.about import Effort, count_answers, write_about
from d2l.questions.writer import find_writer
from d2l.refining.drills import (
    FEWEST_EXAMPLES,
    Drills,
    Sentence,
    drill_examples,
    make_drills,
    name_reason,
    place_questions,
    sentences_of,
)
from d2l.refining.empty_lora import drill_empty
from d2l.refining.loop import Budget, Drilled, Exercises, Settings, take_steps
from d2l.refining.options import RefineOptions, describe_time
from d2l.refining.references import References, ask_general
from d2l.refining.subjects import TASK_TOKENS, MovableLora, MovableSeats
from d2l.refining.teacher import teach
from d2l.training.learners.document_data import Asked, Exercise
from d2l.training.learners.seats.learner import MOST_TOKENS
from d2l.training.learners.seats.loss import measure_loss

#: Above so many seats a memory is crowded: a few drills displace everything else.
CROWDED = 240
#: Such a memory needs a question for every so many seats: with 9 for 320 seats people's questions
#: got less likely, with 16 and more likelier (examples/recipes/LOG.md).
SEATS_A_QUESTION = 20
#: A teacher's answers are never wrong and are learned faster, closer, and in all directions alike
#: (examples/recipes/LOG.md). A verdict takes as long as two or three steps.
_TAUGHT = Settings(rate=0.012, orthogonal=True, enough=0.02, check=8, patience=2)
#: Examples of a task are drilled until those held out get no better. General prompts are judged by
#: and not drilled: a task is to be done whatever is asked (examples/recipes/LOG.md).
_FOR_TASKS = Settings(enough=0.05, drills=12, general=0, rounds=40, drilled_share=0.0, patience=6)
#: A and B, tried on tiny networks alone, move at half the rate of a memory's values, and longer.
_FOR_LORA = Settings(rate=0.003, rounds=12)
#: Part of the time left that the question writer may take.
_WRITING_SHARE = 0.4
#: Time of a verdict, a step and another verdict, in steps: in less nothing can change.
_LEAST_STEPS = 6
#: General prompts whose answers have about as many tokens as those of a step.
_LIKE_A_STEP = 4
#: Wordings of each question besides the likeliest: a question that is drilled in a single wording
#: is learned in that wording alone.
_WORDINGS = 3
_PRECISIONS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class RefineJob:
    """The base, the documents, how long, and where. A memory needs the network that wrote it. Of a
    task there are solved `examples` instead, and the places of those that the memory holds."""

    base: BaseFiles
    documents: tuple[Document, ...]
    options: RefineOptions
    device: str
    watch: Progress = silent
    hypernet: Hypernetwork | None = None
    examples: tuple[Asked, ...] = ()
    read: tuple[int, ...] = ()


class _UnchangedError(Exception):
    """Ends refining with the reason why nothing changes."""


def refine_numbers(
    given: Assembled, job: RefineJob, *, bias_scale: float
) -> tuple[Assembled, Refinement]:
    """Better numbers, or the given ones if nothing is better; and a record. Raises D2LError.

    `bias_scale` is the strength of the part that the network learned for all documents.
    """
    sentences = sentences_of([document.text for document in job.documents])
    record = Refinement(
        steps=0,
        kept=0,
        seed=job.options.seed,
        documents=tuple(document.digest for document in job.documents),
        sentences=len(sentences),
        questions=0,
    )
    try:
        refined, changes = _refine(given, job, sentences, bias_scale)
    except _UnchangedError as end:
        return given, record.model_copy(update={"reason": str(end)})
    return refined, record.model_copy(update=changes)


def _refine(
    given: Assembled, job: RefineJob, sentences: Sequence[Sentence], bias_scale: float
) -> tuple[Assembled, dict[str, Any]]:
    """Better numbers, and fields of the record; raises _UnchangedError."""
    start, options = time.monotonic(), job.options
    until = None if options.seconds is None else start + options.seconds
    texts, tokenizer = [one.text for one in job.documents], load_tokenizer(job.base.folder)
    needed = _count_needed(given, job, tokenizer)
    causal = load_causal(job.base, device=job.device, dtype=pick_precision(job.device))
    subject = _make_subject(given, job, causal, tokenizer, bias_scale)
    references = References(partial(read_out, causal))
    general, held = ask_general(causal, subject, references, base=job.base.digest())
    for _ in range(2):  # the first step fills caches, and may take twice as long as others
        step = _time_step(subject, general, references)
        now = time.monotonic()
        least = now - start + _LEAST_STEPS * step / (1 - _WRITING_SHARE)
        if options.seconds is None or least <= options.seconds:
            break
    else:
        raise _UnchangedError(_miss_time(job, least))
    if job.examples:
        drills = drill_examples(job.examples, job.read, seed=options.seed)
        course = Exercises(drills, general, held, references)
        refined, changes = _drill(given, subject, course, _FOR_TASKS, (job, until, start))
        changes |= {"questions": len(job.examples)}
        if options.compare_lora and changes["steps"]:
            changes["empty_lora"] = _drill_empty(causal, tokenizer, drills, changes["steps"])
        return refined, changes
    writing = None if until is None else now + _WRITING_SHARE * (until - now)
    # Without a teacher only questions count that the base answers as marked.
    checked = given.memory is None
    effort = Effort(writing, _WORDINGS, options.seed, checked=checked, needed=needed)
    about = write_about(causal, tokenizer, job.base, texts, effort=effort, watch=job.watch)
    written = place_questions(about, sentences)
    if len(written) < needed:
        if effort.allows() and not effort.is_hopeless(len(written), now):
            raise _UnchangedError(_miss_questions(job, len(written), needed))
        pace = max(len(written), 1) / (time.monotonic() - now)
        raise _UnchangedError(_miss_time(job, least + needed / pace / _WRITING_SHARE))
    drills, settings = make_drills(sentences, written, seed=options.seed), _FOR_LORA
    if isinstance(subject, MovableSeats):
        teach(subject, references, texts=texts, about=about)
        settings = Settings() if drills.sentences else _TAUGHT  # sentences have no teacher
    course = Exercises(drills, general, held, references)
    refined, changes = _drill(given, subject, course, settings, (job, until, start))
    taught = True if settings is _TAUGHT else None
    return refined, changes | {"questions": len(written), "taught": taught}


def _drill(
    given: Assembled,
    subject: MovableSeats | MovableLora,
    course: Exercises,
    settings: Settings,
    when: tuple[RefineJob, float | None, float],
) -> tuple[Assembled, dict[str, Any]]:
    """Take steps: better numbers, and fields of the record. `when`: the job, when it has to end and
    when it began, on the clock."""
    drills, (job, until, start) = course.drills, when
    outcome = take_steps(
        subject,
        course,
        Budget(min(settings.most_steps(drills), job.options.steps or sys.maxsize), until),
        settings=settings,
        watch=_show_steps(job, until),
    )
    changes = _describe(outcome, drills, settings) | {
        "precision": _PRECISIONS[pick_precision(job.device)],
        **({} if outcome.steps else {"reason": _miss_time(job, time.monotonic() - start)}),
    }
    return subject.assemble() if outcome.kept else given, changes


def _drill_empty(
    causal: Any, tokenizer: BaseTokenizer, drills: Drills, steps: int
) -> tuple[float, float]:
    """NLL of examples held out before and after as many steps of an empty LoRA."""
    outcome = drill_empty(causal, tokenizer, drills, settings=_FOR_TASKS, steps=steps)
    return _round(outcome.before.recall), _round(outcome.after.recall)


def _count_needed(given: Assembled, job: RefineJob, tokenizer: BaseTokenizer) -> int:
    """Questions that refining needs; raises _UnchangedError if the text cannot give them."""
    if job.examples:
        if len(job.examples) < FEWEST_EXAMPLES:
            raise _UnchangedError(
                f"Nothing changed: refining takes {FEWEST_EXAMPLES} examples, and there are "
                f"{len(job.examples)}."
            )
        return 0
    n_seats = 0 if given.memory is None else given.memory.n_seats
    needed = n_seats // SEATS_A_QUESTION if n_seats > CROWDED else 0
    if reason := name_reason(job.documents) or _miss_writer(job, needed):
        raise _UnchangedError(reason)
    if needed:
        texts = [document.text for document in job.documents]
        most = count_answers(texts, tokenizer) * (1 + _WORDINGS)
        if most < needed:
            raise _UnchangedError(_miss_questions(job, most, needed))
    return needed


def _make_subject(
    given: Assembled, job: RefineJob, causal: Any, tokenizer: BaseTokenizer, bias_scale: float
) -> MovableSeats | MovableLora:
    if given.memory is None:
        return MovableLora(given.weights, causal, make_chat(tokenizer))
    assert isinstance(job.hypernet, Seats)  # no other network writes memories
    most = TASK_TOKENS if job.examples else MOST_TOKENS
    return MovableSeats(
        given.memory, job.hypernet, causal, tokenizer, bias_scale=bias_scale, most=most
    )


def pick_precision(device: str) -> torch.dtype:
    """Precision of the frozen base: bf16 where it is fast, else fp32. Parameters are fp32."""
    if device.startswith("cpu"):
        abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        fast = abilities.get("amx_bf16") or abilities.get("avx512_bf16")
        return torch.bfloat16 if fast else torch.float32
    return devices.pick_dtype(device)


def _describe(outcome: Drilled, drills: Drills, settings: Settings) -> dict[str, Any]:
    """Steps and scores for `Refinement`, with four significant digits."""
    before, after = outcome.before, outcome.after
    pairs = {
        "recall": (before.recall, after.recall),
        "drilled": (before.drilled, after.drilled),
        "harm": (before.harm, after.harm),
    }
    rounded = {name: tuple(map(_round, pair)) for name, pair in pairs.items()}
    drilled = None if drills.sentences or not settings.drilled_share else rounded["drilled"]
    return {"steps": outcome.steps, "kept": outcome.kept, **rounded, "drilled": drilled}


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def _miss_writer(job: RefineJob, needed: int) -> str | None:
    if not needed or find_writer(job.base.name) is not None:
        return None
    return (
        f"Nothing changed: refining {_size(job)} takes {needed} written questions, and there is no "
        f"question writer for the base {job.base.name}. Refine single pages."
    )


def _miss_questions(job: RefineJob, asked: int, needed: int) -> str:
    return (
        f"Nothing changed: refining {_size(job)} takes {needed} written questions, and the writer "
        f"could ask {asked}. Refine single pages."
    )


def _miss_time(job: RefineJob, least: float) -> str:
    """`least`: seconds that a first change takes; twice as many are worth while."""
    return (
        f"Nothing changed: {describe_time(job.options.seconds or 0.0)} were too short for "
        f"{_size(job)}. Try --refine {math.ceil(2 * least / 60)}m, or refine single pages."
    )


def _time_step(
    subject: MovableSeats | MovableLora, general: Sequence[Exercise], references: References
) -> float:
    """Seconds of a step, measured on general prompts; nothing moves."""
    start = time.monotonic()
    some = references.refer(general[:_LIKE_A_STEP])
    measure_loss(subject.logits(some), some).total.backward()  # type: ignore[no-untyped-call]
    for parameter in subject.parameters:
        parameter.grad = None
    return time.monotonic() - start


def _size(job: RefineJob) -> str:
    """ "14 pages", or "3,300 characters" of formats without pages, or "40 examples"."""
    if job.examples:
        return f"{len(job.examples):,} examples"
    pages = sum(s.page is not None for document in job.documents for s in document.sections)
    if pages:
        return "1 page" if pages == 1 else f"{pages:,} pages"
    return f"{sum(len(document.text) for document in job.documents):,} characters"


def _show_steps(job: RefineJob, until: float | None) -> Callable[[int], None]:
    """Show progress in steps or, where time ends refining, in seconds."""
    start, by_time = time.monotonic(), job.options.steps is None
    total = job.options.steps or max(round((until or start) - start), 1)
    items = enumerate(job.watch(range(total), "refining"), start=1)
    shown = 0

    def show(step: int) -> None:
        nonlocal shown
        done = time.monotonic() - start if by_time else step
        while shown < done and (item := next(items, None)) is not None:
            shown = item[0]

    return show
