"""Adapter → harm: the change of answers to questions that are not about its document.

The base answers general prompts greedily in its own chat template. Then the adapter reads the same
answers behind its own prompt (its opening, its template), and its distribution before every token
is compared with the base's. The prompts, `datasets/harm_prompts.txt`, are never trained on. Memory
holds the distributions of one batch at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from d2l.bases.models import batched
from d2l.datasets.prompts import read_harm_prompts
from d2l.evaluation.metrics import pick_evenly, show_mean, take_mean
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import GenerationSettings, answer_greedily, token_distributions
from d2l.progress import Progress, silent

#: Longest answer of the base, in tokens, its end token included.
MAX_TOKENS = 32
#: General prompts of 200: all of them take longer than the whole self-test.
FEW_PROMPTS = 24
_BATCH = 8


@dataclass(frozen=True)
class Harm:
    """The change of `n` general answers.

    `kl` is KL(base ‖ adapter) in nats a token, `unchanged` the share of tokens whose most likely
    candidate stays the same: means over an answer's tokens, then over prompts. `seats` is None for
    networks without seats. `one_memory`: the adapter has parts, which are silent, and the memory
    that other engines load was asked.
    """

    seats: int | None
    n: int
    kl: float
    unchanged: float
    stderr: Mapping[str, float | None]
    one_memory: bool = False

    def __str__(self) -> str:
        """The harm for people."""
        seats = "" if self.seats is None else f", {self.seats} seats"
        if self.one_memory:
            seats += " of the one memory that other engines load"
        return (
            f"KL {show_mean(self.kl, self.stderr['kl'])} nats a token, {self.unchanged:.1%} of "
            f"most likely tokens unchanged ({self.n} general prompts{seats})"
        )


def measure_harm(
    asker: AdaptedModel, prompts: Sequence[str] | None = None, *, watch: Progress = silent
) -> Harm:
    """Measure how far an adapter moves the base's own answers to general prompts.

    `prompts`: None for `FEW_PROMPTS` of the shipped ones. Raises AdapterError if prompts do not
    begin with the adapter's opening.
    """
    if prompts is None:
        prompts = pick_evenly(read_harm_prompts(), FEW_PROMPTS)
    compared: list[tuple[float, float]] = []
    for some in watch(batched(prompts, _BATCH), "measuring harm"):
        compared += _compare_answers(asker, some)
    kl, unchanged = zip(*compared, strict=True)
    (mean_kl, kl_error), (mean_unchanged, error) = take_mean(kl), take_mean(unchanged)
    return Harm(
        seats=len(asker.opening) - 1 if asker.opening else None,
        n=len(compared),
        kl=mean_kl,
        unchanged=mean_unchanged,
        stderr={"kl": kl_error, "unchanged": error},
        one_memory=asker.parts is not None,
    )


def _compare_answers(asker: AdaptedModel, prompts: Sequence[str]) -> list[tuple[float, float]]:
    """Compare the adapter with the base on the base's own answers to a batch of prompts."""
    model, end, batch = asker.model, asker.end_token(), len(prompts)
    bare = [asker.prompt_alone(text) for text in prompts]
    own = [asker.prompt(text) for text in prompts]
    with model.disable_adapter():
        settings = GenerationSettings(MAX_TOKENS, batch, end=end, pad=end)
        replies = answer_greedily(model, bare, settings)
        # An answer has its end token if that came within `MAX_TOKENS`.
        answers = [(*ids, end) if len(ids) < MAX_TOKENS else ids for ids in replies]
        expected = list(token_distributions(model, bare, answers, batch=batch, pad=end))
    changed = token_distributions(model, own, answers, batch=batch, pad=end)
    return [compare(*pair) for pair in zip(expected, changed, strict=True)]


def compare(base: Tensor, adapter: Tensor) -> tuple[float, float]:
    """Compute (KL(base ‖ adapter) in nats, share of equal most likely tokens), means over tokens.

    Both are log-probabilities (tokens, vocabulary); KL = Σ p_base · (ln p_base − ln p_adapter).
    """
    kl = (base.exp() * (base - adapter)).sum(dim=-1)  # (tokens,)
    same = base.argmax(dim=-1) == adapter.argmax(dim=-1)
    return float(kl.mean()), float(same.float().mean())
