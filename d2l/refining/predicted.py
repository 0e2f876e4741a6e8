"""An adapter, and the document that it was made from → the same, corrected on that document.

A few gradient steps on the adapter's own numbers: the values of its seats, or A and B. It is
drilled with what the document's own text gives, a memory towards what its passages say with a seat
for every token, and held to the base where nothing is asked about it. What comes back is never
worse, by a verdict over answers that were held out and some that were drilled, than what went in.
Reads no questions of anybody.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from d2l.adapters.provenance import Refinement
from d2l.adapters.weights import LoraWeights, Memory
from d2l.bases.chat import make_chat
from d2l.bases.models import BaseFiles, load_causal
from d2l.bases.tokenizers import BaseTokenizer
from d2l.documents.document import Document
from d2l.hypernets.seats.network import Seats
from d2l.progress import Progress, silent
from d2l.refining.decoder import MemoryDecoder
from d2l.refining.drills import Sentence, Written, make_drills, sentences_of
from d2l.refining.general import take_general
from d2l.refining.loop import Budget, Course, Scores, Settings, refine
from d2l.refining.memory_teacher import make_teacher
from d2l.refining.options import RefineOptions
from d2l.refining.question_writer import AboutText, Effort, write_about
from d2l.refining.reasons import name_reason
from d2l.refining.subjects import MovableLora, MovableSeats, Subject
from d2l.refining.teacher import Teacher
from d2l.refining.writer_questions import Chance

#: Above so many seats a memory is crowded, and what little is drilled displaces the rest.
CROWDED = 240
#: Such a memory is refined with a question for every so many seats: with 9 for 320 of them what
#: people ask got less likely, with 16 and more it got likelier (examples/recipes/LOG.md).
SEATS_A_QUESTION = 20
#: With a teacher more is asked, nothing of it is wrong, and it is learned faster and closer, and in
#: all directions alike (examples/recipes/LOG.md). A verdict takes as long as two steps or three.
_TAUGHT = Settings(rate=0.012, orthogonal=True, enough=0.02, check=8, patience=2)
#: A and B, tried on tiny networks alone, move at half the rate of a memory's values, and longer.
_FOR_LORA = Settings(rate=0.003, rounds=12)
#: Part of the time left that the question writer may take.
_WRITING_SHARE = 0.4
#: How often each answer is asked for besides the likeliest question. What is drilled in one wording
#: alone is learned in that wording, and a question that one wording misses another finds.
_WORDINGS = 3
#: Makes a teacher of documents' texts and what was asked of them.
Teach = Callable[[Sequence[str], Sequence[AboutText]], Teacher]
_PRECISIONS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Job:
    """What is refined on what: the base, the documents, how long, and where."""

    base: BaseFiles
    tokenizer: BaseTokenizer
    documents: tuple[Document, ...]
    options: RefineOptions
    device: str
    watch: Progress = silent


def refine_memory(
    memory: Memory, seats: Seats, job: Job, *, bias_scale: float = 1.0
) -> tuple[Memory, Refinement]:
    """A memory that is corrected, to be seated as any other, and what was done. Raises D2LError."""

    def make(causal: Any) -> tuple[Subject, Teach]:
        shared = seats.network.shared
        if shared is not None and bias_scale != 1.0:
            shared = shared.scaled(bias_scale)
        decoder = MemoryDecoder(causal, seats.statistics, seats.config)
        subject = MovableSeats(memory, decoder, causal, job.tokenizer, shared=shared)

        def teach(texts: Sequence[str], about: Sequence[AboutText]) -> Teacher:
            return make_teacher(seats, decoder, subject, job.tokenizer, texts=texts, about=about)

        return subject, teach

    fewest = memory.n_seats // SEATS_A_QUESTION if memory.n_seats > CROWDED else 0
    subject, done = _refine(make, job, Settings(), fewest_questions=fewest)
    if subject is None:
        return memory, done
    assert isinstance(subject, MovableSeats)
    return subject.memory(), done


def refine_weights(weights: LoraWeights, job: Job) -> tuple[LoraWeights, Refinement]:
    """LoRA weights that are corrected, and what was done; asked in the base's own chat."""

    def make(causal: Any) -> tuple[Subject, None]:
        return MovableLora(weights, causal, make_chat(job.tokenizer)), None

    subject, done = _refine(make, job, _FOR_LORA)
    if subject is None:
        return weights, done
    assert isinstance(subject, MovableLora)
    return subject.weights(), done


def pick_precision(device: str) -> torch.dtype:
    """What the frozen base runs in while an adapter is refined: bf16 where it is fast, else fp32.
    What moves is fp32 in any case."""
    if device.startswith("cpu"):
        abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        fast = abilities.get("amx_bf16") or abilities.get("avx512_bf16")
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if device.startswith("cuda") else torch.float32


def _refine(
    make: Callable[[Any], tuple[Subject, Teach | None]],
    job: Job,
    settings: Settings,
    *,
    fewest_questions: int = 0,
) -> tuple[Subject | None, Refinement]:
    """Drill the subject that `make` makes on a causal base, towards its teacher where it has one;
    None where too little can be asked."""
    start = time.monotonic()
    texts = [document.text for document in job.documents]
    sentences = sentences_of(texts)
    if reason := name_reason(job.documents):
        return None, _keep(job, sentences, reason)
    until = None if job.options.seconds is None else start + job.options.seconds
    causal = load_causal(job.base, device=job.device, dtype=pick_precision(job.device))
    subject, teach = make(causal)
    general, held = take_general(causal, subject, base=job.base.digest())
    written = _write(causal, job, texts, until, checked=teach is None)
    about = list(_place(written, sentences))
    if len(about) < fewest_questions:
        return None, _keep(job, sentences, _name_fewest(len(about), fewest_questions))
    teacher = teach(texts, written) if teach is not None and written else None
    drills = make_drills(sentences, about, seed=job.options.seed, taught=teacher is not None)
    taught = teacher is not None and not drills.sentences  # which have answers of their own
    settings = _TAUGHT if taught else settings
    most = settings.most_steps(drills)
    outcome = refine(
        subject,
        Course(drills, general, held, teacher),
        Budget(min(most, job.options.steps or most), until),
        settings=settings,
        watch=_Meter(job, start),
    )
    before, after = outcome.before, outcome.after
    done = _keep(job, sentences, None).model_copy(
        update={
            "steps": outcome.steps,
            "kept": outcome.kept,
            "precision": _PRECISIONS[causal.dtype],
            "questions": len(about),
            "recall": (_short(before.recall), _short(after.recall)),
            "drilled": None
            if drills.sentences
            else (_short(before.drilled), _short(after.drilled)),
            "harm": (_short(before.harm), _short(after.harm)),
            "taught": True if taught else None,
        }
    )
    return subject, done


def _write(
    causal: Any, job: Job, texts: Sequence[str], until: float | None, *, checked: bool
) -> list[AboutText]:
    """The writer's questions about documents, in its part of the time. A teacher knows an answer to
    each; without one only those count that the base answers as they were meant."""
    now = time.monotonic()
    writing = None if until is None else now + _WRITING_SHARE * (until - now)
    effort = Effort(writing, Chance(_WORDINGS, job.options.seed), checked=checked)
    return write_about(causal, job.tokenizer, job.base, texts, effort=effort, watch=job.watch)


def _name_fewest(asked: int, fewest: int) -> str:
    return (
        f"{asked} questions could be asked of so long a document, in this time or at all, and with "
        f"fewer than {fewest} what is drilled displaces what is not: the prediction is kept as it "
        "is; more time may help"
    )


def _keep(job: Job, sentences: Sequence[Sentence], reason: str | None) -> Refinement:
    """What is said of a refinement of no step yet."""
    done = Refinement(
        steps=0,
        kept=0,
        seed=job.options.seed,
        documents=tuple(document.digest for document in job.documents),
        sentences=len(sentences),
        questions=0,
    )
    return done if reason is None else done.model_copy(update={"reason": reason})


def _place(written: Sequence[AboutText], sentences: Sequence[Sentence]) -> Iterator[Written]:
    """Questions with the number of the sentence that holds their answer. Those whose answer stands
    in none, or across two, are left out: what is held out must not be drilled."""
    for one in written:
        for number, sentence in enumerate(sentences):
            same = sentence.document == one.document
            if same and sentence.start <= one.start and one.stop <= sentence.stop:
                yield Written(number, one.question, one.answer)
                break


def _short(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


class _Meter:
    """Shows how far refining is, in steps or, where time ends it, in seconds."""

    def __init__(self, job: Job, start: float) -> None:
        self._start, self._by_time = start, job.options.steps is None
        total = job.options.steps or round(job.options.seconds or 1)
        self._items = iter(job.watch(range(total), "refining"))
        self._shown = 0

    def __call__(self, step: int, scores: Scores | None) -> None:
        del scores
        done = time.monotonic() - self._start if self._by_time else step
        while self._shown < done and next(self._items, None) is not None:
            self._shown += 1
