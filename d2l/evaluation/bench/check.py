"""A network on a machine where it never ran: a page, ten questions, and what options change."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from d2l.datasets.questions import Question
from d2l.documents.chunks import Tokenizer
from d2l.errors import OptionError, OutOfMemoryError
from d2l.evaluation.bench.cases import Case, draw_texts, make_case
from d2l.evaluation.bench.run import BenchOptions, run_cases
from d2l.evaluation.metrics import Row
from d2l.memory import memory_errors
from d2l.progress import Steps, ignore_steps

_log = logging.getLogger(__name__)
#: Options that are compared on a file of questions, each with all others as they are: precisions,
#: and chunks of training, and up to those of Doc-to-LoRA's published evaluation.
VARIANTS: tuple[dict[str, Any], ...] = (
    *({}, {"base_dtype": "fp32"}, {"base_dtype": "bf16"}, {"encoder": "nf4"}),
    *({"chunk_tokens": length} for length in (512, 2_048, 8_192)),
)
PAGE = """
The Sellan ferry crosses Lake Ommer between Tarvik and Holt. The crossing takes 35 minutes. The
ferry was built in 1964 by the Brandt yard and is painted orange. It carries 18 cars and 120
passengers. Its captain is Mira Oduya. The first ferry leaves Tarvik at 6:20. A ticket costs 4
euros, and children below 7 travel free of charge. In fog the ferry stays in the harbor of Holt.
Lost things are kept in the blue hut beside the pier.
"""
QUESTIONS = (
    ("Which lake does the Sellan ferry cross?", "Ommer"),
    ("How long does the crossing take?", "35 minutes"),
    ("In which year was the ferry built?", "1964"),
    ("Which yard built the ferry?", "Brandt"),
    ("What color is the ferry?", "orange"),
    ("How many cars does the ferry carry?", "18"),
    ("Who is the captain of the ferry?", "Mira Oduya"),
    ("When does the first ferry leave Tarvik?", "6:20"),
    ("What does a ticket cost?", "4 euros"),
    ("Where are lost things kept?", "blue hut"),
)


def check_network(
    options: BenchOptions,
    questions: Path | None = None,
    *,
    lengths: Sequence[int] = (),
    limit: int = 30,
    progress: Steps = ignore_steps,
) -> list[Row]:
    """Rows of a fixed page, and of a file of questions with each of the `VARIANTS` that the network
    takes; raises D2LError."""
    rows = run_cases(_draw_page, options, progress=progress)
    for variant in VARIANTS if questions is not None else ():
        assert questions is not None
        named = " ".join(f"{key} {value}" for key, value in variant.items()) or "as usual"
        varied = replace(
            options,
            name=f"{options.name}, {named}",
            compiling=replace(options.compiling, **variant),
            asking=replace(options.asking, dtype=variant.get("base_dtype", options.asking.dtype)),
        )
        draw = partial(_draw_set, path=questions, lengths=lengths, limit=limit, variant=named)
        try:
            with memory_errors():
                rows += run_cases(draw, varied, progress=progress)
        except (OptionError, OutOfMemoryError) as error:
            _log.warning("%s is left out: %s", named, error.message)
    return rows


def _draw_page(tokenizer: Tokenizer) -> list[Case]:
    asked = [Question(text, (answer,)) for text, answer in QUESTIONS]
    return [make_case(tokenizer, {"variant": "a page"}, "page", " ".join(PAGE.split()), asked)]


def _draw_set(
    tokenizer: Tokenizer, path: Path, lengths: Sequence[int], limit: int, variant: str
) -> list[Case]:
    cases = draw_texts(tokenizer, path, lengths=lengths, limit=limit)
    return [replace(case, cell={"variant": variant}) for case in cases]
