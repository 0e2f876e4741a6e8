"""mistral.rs, in the process, from the package mistralrs."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from d2l.adapters.info import read_info
from d2l.runtimes.adapter_facts import Facts
from d2l.runtimes.catalog import RUNTIMES
from d2l.runtimes.runtime import load_line
from tests.engines.engine import N_GREEDY, Engine, Logits, Scored, quiet

#: Of the model folder that the base's name leads to, whatever `d2l check` says of the base's file:
#: its 4-bit weights take the package's kernels many times the processor time.
BY_NAME = replace(RUNTIMES["mistral.rs"], rescaled="")


def start(line: str, place: Path) -> Any:
    """The runner that a line of Python makes in a folder. Threads that wait for each other take
    several times the processor time of one, so it gets one."""
    import mistralrs

    os.environ["RAYON_NUM_THREADS"] = "1"
    with contextlib.chdir(place), quiet():
        return eval(line, {"mistralrs": mistralrs})


def complete(runner: Any, adapter: str | None, question: str, n: int, top: int = 1) -> Any:
    """The greedy reply to one question, with the `top` log-probabilities of each token."""
    import mistralrs

    return runner.send_chat_completion_request(
        mistralrs.ChatCompletionRequest(
            messages=[{"role": "user", "content": question}],
            model="default",
            max_tokens=n,
            temperature=0.0,
            logprobs=True,
            top_logprobs=top,
            adapter=adapter,
        )
    )


def read_logits(runner: Any, adapter: str | None, question: str) -> Logits:
    """Log-probabilities of the next token, which are logits less a constant: (vocabulary,)."""
    reply = complete(runner, adapter, question, 1, 1 << 20)
    top = reply.choices[0].logprobs.content[0].top_logprobs
    found = np.zeros(len(top))
    found[[one.token for one in top]] = [one.logprob for one in top]
    return found


class MistralRs(Engine):
    """mistral.rs as `d2l check` loads it: each request chooses the adapter, or the base alone."""

    name, package = "mistral.rs", "mistralrs"

    def __init__(self, readme: Path, place: Path) -> None:
        facts = Facts(read_info(readme.parent))
        self._runner, self._adapter = start(load_line(BY_NAME, facts), place), facts.name

    def ask(self, question: str) -> str:
        return str(complete(self._runner, self._adapter, question, 40).choices[0].message.content)

    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        question = self._find_question(ids)
        adapted = read_logits(self._runner, self._adapter, question)
        return adapted, read_logits(self._runner, None, question)

    def greedy(self, ids: Sequence[int]) -> Scored:
        reply = complete(self._runner, self._adapter, self._find_question(ids), N_GREEDY)
        assert reply.usage.prompt_tokens == len(ids)  # its own tokenizer and template
        scored = reply.choices[0].logprobs.content
        return self._cut([(one.top_logprobs[0].token, one.logprob) for one in scored])

    def _find_question(self, ids: Sequence[int]) -> str:
        """The question in a prompt: no request takes ids, nor a prompt without the template."""
        text = self._runner.detokenize_text(list(ids), False)
        return str(text.rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0])
