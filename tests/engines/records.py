"""An engine is measured against PEFT, and the run is kept where D2L_RECORD asks for it."""

import json
import logging
import math
import os
from dataclasses import asdict
from datetime import date
from functools import cache

from d2l.evaluation.metrics import contains_answer
from d2l.runtimes.runs import RUNS, EngineRun, read_runs
from tests.engines.engine import Engine, Logits, Scored, compare_changes
from tests.engines.peft import Peft

log = logging.getLogger(__name__)  # shown by --log-cli-level=INFO
Questions = tuple[tuple[str, tuple[str, ...]], ...]
N_PROMPTS = 10


def measure(
    engine: Engine, peft: Peft, network: str, seats: int, questions: Questions
) -> EngineRun:
    """Measure an engine: ten of the questions at most as prompts, and all as questions."""
    cosines, differences, equal = [], [], 0
    for ids, changes, expected in ask_peft(peft, questions):
        if engine.has_logits:
            cosines.append(compare_changes(changes, engine.logits(ids)))
        answer = engine.greedy(ids)
        tokens = [token for token, _ in answer]
        by_peft = expected if tokens == [t for t, _ in expected] else peft.score(ids, tokens)
        differences += [abs(a - b) for (_, a), (_, b) in zip(answer, by_peft, strict=True)]
        equal += by_peft is expected
    run = EngineRun(
        engine.name,
        f"{engine.how}{engine.package} {engine.version}",
        f"{date.today():%Y-%m-%d}",
        network,
        seats,
        round(min(cosines), 5) if cosines else None,
        equal,
        round(max(differences), 5),
        len(questions),
        count_answered(engine, questions),
        count_answered(peft, questions),
    )
    log.info("%s", run)
    return run


@cache  # PEFT is asked once, for all engines
def ask_peft(
    peft: Peft, questions: Questions
) -> list[tuple[list[int], tuple[Logits, Logits], Scored]]:
    """Ten prompts, or as many as there are questions, with PEFT's logits and greedy answers."""
    prompts = [peft.encode(q) for q, _ in questions[:: max(1, len(questions) // N_PROMPTS)]]
    assert len(prompts) == min(N_PROMPTS, len(questions))
    return [(ids, peft.logits(ids), peft.greedy(ids)) for ids in prompts]


@cache
def count_answered(engine: Engine, questions: Questions) -> int:
    """Questions whose answer contains the reference."""
    return sum(contains_answer(engine.ask(q), list(references)) for q, references in questions)


def save_run(run: EngineRun) -> None:
    """Put a run into the file, in place of the run before."""
    read_runs.cache_clear()  # another process may have saved one
    others = [r for r in read_runs() if (r.engine, r.network) != (run.engine, run.network)]
    rows = sorted([*others, run], key=lambda r: (r.engine, r.network))
    text = ",\n".join(json.dumps(asdict(row)) for row in rows)
    RUNS.write_text(f"[\n{text}\n]\n", "utf-8", newline="\n")
    read_runs.cache_clear()


def keep(run: EngineRun) -> None:
    """Save the run, if that is asked for; then its answers must be as many as PEFT's, within two
    standard errors of the difference."""
    if os.environ.get("D2L_RECORD"):
        save_run(run)
    shares = [run.answered / run.questions, run.answered_by_peft / run.questions]
    error = math.sqrt(sum(share * (1 - share) / run.questions for share in shares))
    assert shares[1] > 0.1  # or nothing would be compared
    assert abs(shares[0] - shares[1]) <= 2 * error
