"""Adapter → harm: what it does to questions that are not about its document.

The base answers general prompts greedily in its own chat template; then the adapter reads the same
answers behind the prompt that it wants (its opening, its template), and its distribution before
every token is held against the base's. The prompts, `datasets/harm_prompts.txt`, are never trained
on. Memory stays flat: distributions of one batch are there at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from d2l.bases.batches import batched
from d2l.datasets.prompts import read_harm_prompts
from d2l.evaluation.means import take_mean
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import answer_greedily, token_distributions
from d2l.progress import Progress, silent

#: Longest answer of the base, in tokens, its end token included.
MAX_TOKENS = 32


@dataclass(frozen=True)
class GeneralAnswers:
    """The base's own greedy answers to general prompts, as token ids, each with its end token
    where it came within `MAX_TOKENS`. They hold for every adapter of the base."""

    prompts: tuple[str, ...]
    answers: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Harm:
    """How far an adapter moves the base's answers to `n` general prompts.

    `kl` is KL(base ‖ adapter) in nats a token, `unchanged` the share of tokens whose most likely
    candidate is the same; both are means over an answer's tokens, then over prompts, and so are
    their standard errors. `seats` is None for networks that have none.
    """

    seats: int | None
    kl: float
    unchanged: float
    n: int
    kl_stderr: float | None
    unchanged_stderr: float | None

    def to_json(self) -> dict[str, Any]:
        """As `d2l probe --json` prints it."""
        return {
            "seats": self.seats,
            "kl": self.kl,
            "unchanged": self.unchanged,
            "n": self.n,
            "stderr": {"kl": self.kl_stderr, "unchanged": self.unchanged_stderr},
        }


def answer_general(
    asker: AdaptedModel,
    prompts: Sequence[str] | None = None,
    *,
    batch: int = 8,
    watch: Progress = silent,
) -> GeneralAnswers:
    """Let the base alone answer general prompts (those that are shipped, unless others are given).

    Once for a base: adapters can be exchanged on it (`set_adapter`).
    """
    texts = tuple(read_harm_prompts() if prompts is None else prompts)
    end = asker.end_token()
    answers: list[tuple[int, ...]] = []
    with asker.model.disable_adapter():
        for chosen in watch(batched(range(len(texts)), batch), "answering general prompts"):
            made = answer_greedily(
                asker.model,
                [asker.prompt_alone(texts[index]) for index in chosen],
                max_tokens=MAX_TOKENS,
                batch=batch,
                end=end,
                pad=end,
            )
            answers += [(*ids, end) if len(ids) < MAX_TOKENS else ids for ids in made]
    return GeneralAnswers(texts, tuple(answers))


def measure_harm(
    asker: AdaptedModel,
    general: GeneralAnswers,
    *,
    batch: int = 8,
    watch: Progress = silent,
) -> Harm:
    """Hold the adapter on `asker` against its base on the base's own answers.

    Raises AdapterError where prompts do not begin with the adapter's opening.
    """
    model, pad = asker.model, asker.end_token()
    kls: list[float] = []
    kept: list[float] = []
    for chosen in watch(batched(range(len(general.prompts)), batch), "measuring harm"):
        answers = [general.answers[index] for index in chosen]
        texts = [general.prompts[index] for index in chosen]
        bare = [asker.prompt_alone(text) for text in texts]
        with model.disable_adapter():
            expected = list(token_distributions(model, bare, answers, batch=batch, pad=pad))
        prompts = [asker.prompt(text) for text in texts]
        found = token_distributions(model, prompts, answers, batch=batch, pad=pad)
        for base, adapter in zip(expected, found, strict=True):
            kl, same = compare(base, adapter)
            kls.append(kl)
            kept.append(same)
    kl_mean, kept_mean = take_mean(kls), take_mean(kept)
    return Harm(
        seats=len(asker.opening) - 1 if asker.opening else None,
        kl=kl_mean.value,
        unchanged=kept_mean.value,
        n=kl_mean.n,
        kl_stderr=kl_mean.stderr,
        unchanged_stderr=kept_mean.stderr,
    )


def compare(base: Tensor, adapter: Tensor) -> tuple[float, float]:
    """(KL(base ‖ adapter) in nats, share of equal most likely tokens), means over tokens.

    Both are log-probabilities (tokens, vocabulary); KL = Σ p_base · (ln p_base − ln p_adapter).
    """
    kl = (base.exp() * (base - adapter)).sum(dim=-1)  # (tokens,)
    same = base.argmax(dim=-1) == adapter.argmax(dim=-1)
    return float(kl.mean()), float(same.float().mean())
