"""Question → answer of the parts that it chooses, as `d2l ask` does it, and an answer's likelihood.

One question at a time: each reads parts of its own.
"""

from collections.abc import Sequence

from torch import Tensor

from d2l.datasets.silence import SILENCE
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import GenerationSettings, score_behind
from d2l.inference.parts.choose import PartOptions


def asks_parts(asker: AdaptedModel) -> bool:
    """Whether `d2l ask` would ask the adapter's parts."""
    return asker.parts is not None and not asker.options.parts.whole


def answer_by_parts(
    asker: AdaptedModel,
    question: str,
    wanted: Sequence[int],
    parts: PartOptions,
    *,
    max_tokens: int | None = None,
) -> tuple[Tensor, str]:
    """(log-probability of each wanted token (tokens,) behind the question, the greedy answer).

    `max_tokens`: of the answer; None: as the asker's options say. Where no part answers, the answer
    is SILENCE, and the likelihood is that of the best part. Raises as `AdaptedModel.reading`.
    """
    most, end = max_tokens, asker.end_token()
    if most is None:
        most = asker.options.max_new_tokens
    settings = GenerationSettings(most, 1, end=end, pad=end)
    with asker.reading([{"role": "user", "content": question}], parts) as prompt:
        choice = prompt.choice
        answers = choice is None or choice.is_answered
        if answers or prompt.cache is not None:
            causal = asker.model.get_base_model()
            log_probs, ids = score_behind(causal, prompt.ids, prompt.cache, wanted, settings)
            text = asker.base_tokenizer.decode(ids, skip_special_tokens=True)
            return log_probs, str(text).strip() if answers else SILENCE
    assert choice is not None  # no part shares a word with the question, so none was read
    best = PartOptions(page=f"#{choice.indices[0]}")
    return answer_by_parts(asker, question, wanted, best, max_tokens=0)[0], SILENCE
