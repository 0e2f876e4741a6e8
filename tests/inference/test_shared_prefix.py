"""A beginning that stands beside the cache says what the same tokens in the cache say."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from d2l.bases.activations import cache_keyword
from d2l.inference import shared_prefix
from d2l.inference.likelihood import GenerationSettings, answer_greedily
from d2l.inference.shared_prefix import attending, can_attend, mask_rest, take_prefix
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
BEGINNING = list(range(5, 25))
#: Padded on the left, and how many of the tokens count.
ROWS, COUNTS = [[0, 0, 31, 32], [0, 33, 34, 35], [36, 37, 38, 39]], [2, 3, 4]


def read(model: Any, ids: list[list[int]], mask: torch.Tensor, cache: Any) -> Any:
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -len(ids[0]) :]
    with torch.no_grad():
        return model.model(
            input_ids=torch.tensor(ids),
            attention_mask=mask,
            position_ids=places,
            use_cache=True,
            **{cache_keyword(model): cache},
        ).last_hidden_state


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("most_scores", [1, 2**24])
def test_rows_behind_a_beginning_are_what_each_is_by_itself(
    family: str, most_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_prefix, "_MOST_SCORES", most_scores)
    model = tiny.make_causal(family)
    assert can_attend(model)
    n = len(BEGINNING)
    before = DynamicCache()
    read(model, [BEGINNING], torch.ones(1, n, dtype=torch.long), before)
    prefix, cache = take_prefix(before), DynamicCache()
    assert prefix.n_tokens == n
    mask = torch.tensor([[1] * n + [0] * (4 - count) + [1] * count for count in COUNTS])
    found = []
    with attending(model, prefix):
        for at in (slice(0, 3), slice(3, 4)):  # several tokens at once, and one behind them
            here = mask[:, : n + at.stop]
            ids, n_new = torch.tensor([row[at] for row in ROWS]), at.stop - at.start
            with torch.no_grad():
                output = model.model(
                    input_ids=ids,
                    attention_mask=mask_rest(here, prefix, n_new),
                    position_ids=(here.cumsum(dim=1) - 1)[:, -n_new:],
                    use_cache=True,
                    **{cache_keyword(model): cache},
                )
            found.append(output.last_hidden_state)
    assert cache.get_seq_length() == 4  # the beginning is in no row of it
    states = torch.cat(found, dim=1)
    for row, ids, count in zip(states, ROWS, COUNTS, strict=True):
        line = [BEGINNING + ids[-count:]]
        alone = read(model, line, torch.ones(1, n + count, dtype=torch.long), DynamicCache())
        torch.testing.assert_close(row[-count:], alone[0, -count:], atol=1e-5, rtol=0)


def test_a_model_is_as_it_was_behind_the_block_whatever_happens_in_it() -> None:
    model = tiny.make_causal("llama")
    cache = DynamicCache()
    read(model, [BEGINNING], torch.ones(1, len(BEGINNING), dtype=torch.long), cache)
    before = model.config._attn_implementation
    with pytest.raises(IndexError), attending(model, take_prefix(cache)):
        model.model(input_ids=torch.tensor([[10**6]]))
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(("family", "able"), [("llama", True), ("gemma2", False)])
def test_beginnings_stand_once_where_the_model_allows_it(family: str, able: bool) -> None:
    model = tiny.make_causal(family)
    assert can_attend(model) == able
    cached: list[int] = []

    def note(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        cache = given[cache_keyword(model)]
        cached.append(0 if cache is None else cache.get_seq_length())

    model.model.register_forward_pre_hook(note, with_kwargs=True)
    prompts = [[*BEGINNING, 31], [*BEGINNING, 32, 33]]
    answer_greedily(model, prompts, GenerationSettings(3, batch=2, end=1, pad=0))
    assert cached == ([0, 0, 2, 3] if able else [0, 22, 23])
