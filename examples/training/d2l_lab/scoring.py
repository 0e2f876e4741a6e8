"""Questions → greedy answers, and the likelihood of wanted answers: by an adapter or by its base.

An adapter with parts answers as `d2l ask` does, one question at a time: each reads its own parts.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from d2l import AdaptedModel
from d2l.answer.forward import extend_in_pieces
from d2l.answer.options import AskOptions
from d2l.answer.torch_engine import TorchCache
from d2l.datasets.silence import SILENCE
from d2l.parts.kept import Context, PartOptions
from d2l_lab.likelihood import GenerationSettings, count_shared, score_answers, score_behind

#: Prompts that are read together.
_BATCH = 8


class Query(NamedTuple):
    """A question, and the ids of the answer whose likelihood is measured.

    `text`: goes into the base's prompt. `parts`: those that an adapter with parts is asked by;
    None: as the model's options say. `short`: an adapter answers in a few words.
    """

    question: str
    wanted: tuple[int, ...] = ()
    text: str | None = None
    parts: PartOptions | None = None
    short: bool = False


class ScoredAnswer(NamedTuple):
    """A greedy answer, and the log-probability of each wanted token, fp32 (tokens,) on the CPU.

    `part`: index of the part that answered. `n_cut`: tokens of the text that the prompt
    lacks. `first_seconds`: from the question to the first token, of a question that is asked alone.
    """

    text: str
    log_probs: Tensor
    part: int | None = None
    n_cut: int = 0
    first_seconds: float | None = None


def answer_adapted(
    asker: AdaptedModel, asked: Sequence[Query], *, max_tokens: int | None = None
) -> list[ScoredAnswer]:
    """Answer with the adapter, by its parts where it has some.

    `max_tokens`: of an answer; None: as the model's options say. Raises AdapterError as
    `AdaptedModel.answer`.
    """
    most = asker.options.max_new_tokens if max_tokens is None else max_tokens
    options = [
        replace(asker.options, parts=row.parts or asker.options.parts, short=row.short)
        for row in asked
    ]
    if not asker.kept.chooses or all(one.parts.whole for one in options):
        pairs = zip(asked, options, strict=True)
        prompts = [
            asker.prompt_turns(asker.complete([{"role": "user", "content": q.question}], o))
            for q, o in pairs
        ]
        return _answer_batch(asker, prompts, asked, most)
    return [
        _answer_by_parts(asker, row, one, most) for row, one in zip(asked, options, strict=True)
    ]


def answer_alone(
    asker: AdaptedModel,
    asked: Sequence[Query],
    *,
    max_tokens: int | None = None,
    system: str | None = None,
) -> list[ScoredAnswer]:
    """Answer with the base, which has the text of a question in its prompt, if there is one.

    With a `system` text, which the base has read before, questions are answered one at a time.
    """
    most = asker.options.max_new_tokens if max_tokens is None else max_tokens
    cuts = [0] * len(asked)
    prompts = []
    for number, row in enumerate(asked):
        if row.text is None:
            prompts.append(asker.prompt_alone(row.question))
        else:
            n_answer = max(most, len(row.wanted))
            prompt, cuts[number] = asker.prompt_about(
                row.text, row.question, n_answer=n_answer, system=system
            )
            prompts.append(prompt)
    with asker.model.disable_adapter():
        if system is None:
            answers = _answer_batch(asker, prompts, asked, most)
        else:
            pair = [asker.prompt_about(text, "", n_answer=0, system=system)[0] for text in "0§"]
            head = pair[0][: count_shared(asker.model, pair)]
            answers = _answer_each(asker, prompts, asked, most, head)
    return [answer._replace(n_cut=cut) for answer, cut in zip(answers, cuts, strict=True)]


@torch.inference_mode()
def _answer_each(
    asker: AdaptedModel,
    prompts: Sequence[list[int]],
    asked: Sequence[Query],
    max_tokens: int,
    head: list[int],
) -> list[ScoredAnswer]:
    """Answer one prompt at a time; the model reads their beginning `head` once, before."""
    ids, answers = torch.tensor([head], dtype=torch.long, device=asker.model.device), []
    cache, _ = extend_in_pieces(asker.model, ids, mask=torch.ones_like(ids), cache=None)
    for prompt, row in zip(prompts, asked, strict=True):
        is_read = prompt[: len(head)] == head
        own = TorchCache(copy.deepcopy(cache) if is_read else None, "none")
        start, rest = time.perf_counter(), prompt[len(head) * is_read :]
        answers.append(_answer_behind(asker, Context(own, rest), row, max_tokens, start))
    return answers


def _answer_batch(
    asker: AdaptedModel, prompts: Sequence[list[int]], asked: Sequence[Query], max_tokens: int
) -> list[ScoredAnswer]:
    end, decode = asker.end_token(), asker.base_tokenizer.decode
    settings = GenerationSettings(max_tokens, _BATCH, end=end, pad=end)
    scored = score_answers(asker.model, prompts, [row.wanted for row in asked], settings)
    return [
        ScoredAnswer(str(decode(ids, skip_special_tokens=True)).strip(), log_probs)
        for log_probs, ids in scored
    ]


def _answer_by_parts(
    asker: AdaptedModel, asked: Query, options: AskOptions, max_tokens: int
) -> ScoredAnswer:
    """Answer with the parts that the question chooses; they are read from their files.

    If no part answers, the answer is SILENCE, and the likelihood is that of the best part.
    """
    asker.kept.forget()
    start = time.perf_counter()
    begun = asker.read([{"role": "user", "content": asked.question}], options)
    first = time.perf_counter() - start
    if begun.context is not None:
        scored = _answer_behind(asker, begun.context, asked, max_tokens, start)
        return scored._replace(part=begun.verdict.indices[0])
    best = replace(options, parts=PartOptions(page=f"#{begun.verdict.indices[0]}"))
    scored = _answer_by_parts(asker, asked, best, 0)
    return scored._replace(text=SILENCE, part=None, first_seconds=first)


def _answer_behind(
    asker: AdaptedModel, context: Context, asked: Query, max_tokens: int, start: float
) -> ScoredAnswer:
    """Continue what was read; `start`: the time of its question."""
    end, cache = asker.end_token(), context.cache
    assert isinstance(cache, TorchCache)
    settings = GenerationSettings(max_tokens, 1, end=end, pad=end, banned=context.banned)
    with asker.engine.using(cache.effect):
        log_probs, ids, first = score_behind(
            asker.model, context.ids, cache.past, asked.wanted, settings
        )
    text = str(asker.base_tokenizer.decode(ids, skip_special_tokens=True)).strip()
    return ScoredAnswer(text, log_probs, first_seconds=first - start)
