"""`d2l ask` with a compiled adapter, and the answers that transformers itself gives."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from d2l.answer.events import Start
from d2l.answer.model import AdaptedModel
from d2l.bases.activations import cache_keyword
from d2l.parts.kv import Kv
from d2l.parts.ranks import Ranks
from d2l.parts.seats import Seats
from tests import tiny
from tests.command import Command, Outcome
from tests.compiled import Compiled, family_of, generate, make_dense, write_prompt

QUESTIONS = ("How often is the filter rinsed?", "Where is the pump?")
N_TOKENS = 6


def ask(command: Command, done: Compiled, *arguments: object) -> Outcome:
    fixed = ("--base", done.base, "--device", "cpu", "--offline", "--max-tokens", N_TOKENS)
    return command("ask", done.adapter, *arguments, *fixed)


def expect(kind: str, done: Compiled, question: str) -> dict[str, str]:
    """Answers of the three arms by transformers itself, each from a prompt written by hand."""
    words = "".join(f" {word}" for word in tiny.WORDS) if kind == "seats" else ""
    bare = tiny.make_causal(family_of(kind))
    told = write_prompt(f"{tiny.DOCUMENT}\n\n{question}")
    prompt = write_prompt(question, tiny.SYSTEM + words)
    return {
        "adapter": generate(make_dense(kind, done.adapter), prompt, N_TOKENS),
        "base": generate(bare, write_prompt(question), N_TOKENS),
        "prompt": generate(bare, told, N_TOKENS),
    }


def judge(monkeypatch: pytest.MonkeyPatch, **changes: float) -> None:
    """Change the judging of parts by all kinds of bases."""
    for kind in (Ranks, Seats, Kv):
        monkeypatch.setattr(kind, "judging", replace(kind.judging, **changes))


def read_logits(asker: AdaptedModel, start: Start, ids: Sequence[int] = ()) -> torch.Tensor:
    """Logits (tokens, vocabulary) of what was read before an answer, with some of its ids."""
    assert start.context is not None
    cache = asker.engine.copy(start.context.cache)
    kept = {cache_keyword(asker.model.get_base_model()): cache.past} if cache.past else {}
    rows = torch.tensor([[*start.context.ids, *ids]])
    with asker.engine.using(cache.effect), torch.inference_mode():
        logits: torch.Tensor = asker.model(rows, **kept).logits[0]
    return logits


def one_line(text: str) -> str:
    return " ".join(text.split())
