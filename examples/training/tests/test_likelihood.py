from collections.abc import Callable, Sequence
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from d2l_lab.likelihood import (
    GenerationSettings,
    answer_greedily,
    score_answers,
    token_distributions,
)
from tests import tiny
from tests.compiled import PEFT_DEPRECATION, Compiled, make_dense, write_prompt

pytestmark = pytest.mark.usefixtures("one_thread")

PAD, END, N_TOKENS = 0, 2, 9
#: Of different lengths, with a beginning in common, longer than Gemma's window of 16 tokens.
PROMPTS = [
    tiny.encode(write_prompt(text))
    for text in ("Why?", "How often is the filter rinsed?", tiny.DOCUMENT, "Wo steht die Pumpe?")
]
ANSWERS = [tiny.encode(text) for text in ("14 days<|im_end|>", "x", "the copper valve", "harbor")]


def settle(n_tokens: int, batch: int, end: int = END) -> GenerationSettings:
    return GenerationSettings(n_tokens, batch, end, PAD)


def score_alone(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Log-probabilities (tokens, vocabulary) by one pass over one sequence, without any cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0]
    return logits[len(prompt) - 1 : -1].float().log_softmax(dim=-1)


def answer_alone(model: Any, prompt: Sequence[int]) -> tuple[int, ...]:
    """Greedy answer that reads everything again for every token."""
    ids = list(prompt)
    for _ in range(N_TOKENS):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
        token = int(logits[0, -1].argmax())
        if token == END:
            break
        ids.append(token)
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_batches_say_what_one_sequence_after_the_other_says(family: str) -> None:
    model = tiny.make_causal(family)
    whole = [score_alone(model, p, a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    alone = [answer_alone(model, prompt) for prompt in PROMPTS]
    for batch in (1, 3, 8):
        found = score_answers(model, PROMPTS, ANSWERS, settle(0, batch))
        for row, answer, (log_probs, own) in zip(whole, ANSWERS, found, strict=True):
            assert own == ()
            expected = torch.stack([row[place, token] for place, token in enumerate(answer)])
            torch.testing.assert_close(log_probs, expected, atol=1e-4, rtol=0)
        rows = list(token_distributions(model, PROMPTS, ANSWERS, batch=batch, pad=PAD))
        for row, distribution in zip(whole, rows, strict=True):
            torch.testing.assert_close(distribution, row, atol=1e-4, rtol=0)
        assert answer_greedily(model, PROMPTS, settle(N_TOKENS, batch)) == alone


@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_both_at_once_are_each_by_itself(family: str) -> None:
    model = tiny.make_causal(family)
    found = score_answers(model, PROMPTS, ANSWERS, settle(N_TOKENS, 3))
    own = answer_greedily(model, PROMPTS, settle(N_TOKENS, 3))
    assert [answer for _, answer in found] == own
    scores = score_answers(model, PROMPTS, ANSWERS, settle(0, 3))
    for (log_probs, _), (expected, _) in zip(found, scores, strict=True):
        assert torch.equal(log_probs, expected)


def test_an_answer_ends_before_the_end_token_and_the_others_go_on() -> None:
    model = tiny.make_causal("llama")
    never = tiny.vocab_size() - 1
    free = answer_greedily(model, PROMPTS, settle(6, 4, never))
    assert [len(answer) for answer in free] == [6] * 4
    end = free[0][2]
    ended = answer_greedily(model, PROMPTS, settle(6, 4, end))
    for whole, answer in zip(free, ended, strict=True):
        assert answer == (whole[: whole.index(end)] if end in whole else whole)
    assert len(ended[0]) < 6 == max(map(len, ended))


def test_the_last_of_a_batch_are_not_waited_for_where_one_says_so() -> None:
    model = tiny.make_causal("llama")
    never = tiny.vocab_size() - 1
    free = answer_greedily(model, PROMPTS, settle(6, 4, never))
    end = free[0][2]
    whole = answer_greedily(model, PROMPTS, settle(6, 4, end))
    n_going = [sum(len(answer) > place for answer in whole) for place in range(6)]  # after each
    assert n_going[0] > n_going[2] > 0
    stragglers = n_going[2] / len(PROMPTS)
    settings = GenerationSettings(6, batch=4, end=end, pad=PAD, stragglers=stragglers)
    cut = answer_greedily(model, PROMPTS, settings)
    assert cut != whole
    n_waited = max(map(len, cut))
    assert n_waited == next(n for n, going in enumerate(n_going, 1) if going <= n_going[2])
    assert cut == [answer[:n_waited] for answer in whole]


@pytest.mark.parametrize("family", ["gemma2", "llama", "qwen2"])
def test_rows_that_have_ended_are_computed_no_more(family: str) -> None:
    model = tiny.make_causal(family)
    never = tiny.vocab_size() - 1
    prompts = [PROMPTS[0], PROMPTS[2], PROMPTS[0], PROMPTS[0]]
    free = answer_greedily(model, prompts, settle(N_TOKENS, 4, never))
    end = next(token for token in free[0] if token not in free[1])
    n_rows: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _module, _args, given: n_rows.append(given["input_ids"].shape[0]), with_kwargs=True
    )
    ended = answer_greedily(model, prompts, settle(N_TOKENS, 4, end))
    short = free[0][: free[0].index(end)]
    assert ended == [short, free[1], short, short]
    assert n_rows[-(N_TOKENS - 1) :] == [4] * len(short) + [1] * (N_TOKENS - 1 - len(short))


def test_the_same_prompt_twice_and_an_empty_answer_are_no_special_case() -> None:
    model = tiny.make_causal("llama")
    prompts, answers = [PROMPTS[0]] * 2, [[], ANSWERS[2]]
    (first, _), (second, _) = score_answers(model, prompts, answers, settle(0, 2))
    assert first.shape == (0,)
    ((alone, _),) = score_answers(model, prompts[1:], answers[1:], settle(0, 1))
    torch.testing.assert_close(second, alone, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
def test_the_caller_says_whether_the_adapter_is_on(compiled: Callable[[str], Compiled]) -> None:
    done = compiled("llama")
    plain, dense = tiny.make_causal("llama"), make_dense("llama", done.adapter)
    model = peft.PeftModel.from_pretrained(tiny.make_causal("llama"), str(done.adapter)).eval()
    on = answer_greedily(model, PROMPTS, settle(N_TOKENS, 4))
    with model.disable_adapter():
        off = answer_greedily(model, PROMPTS, settle(N_TOKENS, 4))
    assert on == [answer_alone(dense, prompt) for prompt in PROMPTS]
    assert off == [answer_alone(plain, prompt) for prompt in PROMPTS]
    assert on != off
