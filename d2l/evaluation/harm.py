"""Adapter → harm: what it does to questions that are not about its document.

The base answers general prompts greedily in its own chat template. Then the adapter reads the same
answers behind its own prompt (its opening, its template), and its distribution before every token
is compared with the base's. The prompts, `datasets/harm_prompts.txt`, are never trained on. Memory
holds the distributions of one batch at a time.
"""

import contextlib
from collections.abc import Sequence

from torch import Tensor

from d2l.bases.models import batched
from d2l.datasets.prompts import read_harm_prompts
from d2l.evaluation.metrics import Row, pick_evenly, show_score, take_means
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import answer_greedily, token_distributions
from d2l.progress import Progress, silent

#: Longest answer of the base, in tokens, its end token included.
MAX_TOKENS = 32
#: General prompts for a single adapter: all would take longer than everything else together.
FEW_PROMPTS = 24

#: General prompts with the base's own greedy answers as token ids, which hold for all its adapters.
#: An answer has its end token where that came within `MAX_TOKENS`.
GeneralAnswers = dict[str, tuple[int, ...]]


def answer_general(
    asker: AdaptedModel,
    prompts: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    batch: int = 8,
    watch: Progress = silent,
) -> GeneralAnswers:
    """Let the base alone answer `limit` (None: all) general prompts, by default shipped ones.

    Once for a base: adapters can be exchanged on it (`set_adapter`).
    """
    texts = read_harm_prompts() if prompts is None else prompts
    texts = pick_evenly(texts, limit or len(texts))
    end = asker.end_token()
    answers: GeneralAnswers = {}
    with asker.model.disable_adapter():
        for chosen in watch(batched(texts, batch), "answering general prompts"):
            replies = answer_greedily(
                asker.model,
                [asker.prompt_alone(text) for text in chosen],
                max_tokens=MAX_TOKENS,
                batch=batch,
                end=end,
                pad=end,
            )
            for text, ids in zip(chosen, replies, strict=True):
                answers[text] = (*ids, end) if len(ids) < MAX_TOKENS else ids
    return answers


def measure_harm(
    asker: AdaptedModel,
    general: GeneralAnswers,
    *,
    batch: int = 8,
    document: str | None = None,
    watch: Progress = silent,
) -> Row:
    """How far the adapter on `asker`, or a `document` in the prompt, moves the base's own answers.

    `kl` is KL(base ‖ adapter) in nats a token, `unchanged` the share of tokens whose most likely
    candidate stays the same: means over an answer's tokens, then over prompts. `seats` is None for
    networks without seats. Raises AdapterError where prompts do not begin with the adapter's
    opening. An adapter with parts is asked as one memory (`one_memory`), since parts keep silent.
    """
    model, pad = asker.model, asker.end_token()
    compared: list[tuple[float, float]] = []
    for chosen in watch(batched(list(general), batch), "measuring harm"):
        answers = [general[text] for text in chosen]
        bare = [asker.prompt_alone(text) for text in chosen]
        with model.disable_adapter():
            expected = list(token_distributions(model, bare, answers, batch=batch, pad=pad))
        if document is None:
            prompts = [asker.prompt(text) for text in chosen]
        else:
            prompts = [
                asker.prompt_about(document, text, n_answer=MAX_TOKENS)[0] for text in chosen
            ]
        off = contextlib.nullcontext() if document is None else model.disable_adapter()
        with off:
            changed = token_distributions(model, prompts, answers, batch=batch, pad=pad)
            compared += [compare(*pair) for pair in zip(expected, changed, strict=True)]
    kl, unchanged = zip(*compared, strict=True)
    means = take_means({"kl": kl, "unchanged": unchanged})
    row = {"seats": count_seats(asker), "n": len(compared), **means}
    return row if asker.parts is None else row | {"one_memory": True}


def count_seats(asker: AdaptedModel) -> int | None:
    """Seats of the adapter on `asker`; None for networks without seats."""
    return len(asker.opening) - 1 if asker.opening else None


def compare(base: Tensor, adapter: Tensor) -> tuple[float, float]:
    """(KL(base ‖ adapter) in nats, share of equal most likely tokens), means over tokens.

    Both are log-probabilities (tokens, vocabulary); KL = Σ p_base · (ln p_base − ln p_adapter).
    """
    kl = (base.exp() * (base - adapter)).sum(dim=-1)  # (tokens,)
    same = base.argmax(dim=-1) == adapter.argmax(dim=-1)
    return float(kl.mean()), float(same.float().mean())


def describe_harm(harm: Row) -> str:
    """A row of harm for people."""
    seats = "" if harm["seats"] is None else f", {harm['seats']} seats"
    if harm.get("one_memory"):
        seats += " of the one memory that other engines load"
    return (
        f"KL {show_score(harm, 'kl', '.2f')} nats a token, {harm['unchanged']:.1%} of most likely "
        f"tokens unchanged ({harm['n']} general prompts{seats})"
    )
