"""Three engines that run an adapter, each set up and asked by the README of its own export.

The code in a README is run as it stands; only the question in it is exchanged. Beyond its answers
an engine gives logits of the next token, with the adapter and with it switched off.
"""

import contextlib
import io
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Logits = NDArray[np.float64]
_CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_QUESTION = re.compile(r'"content": "[^"]*"')
N_GREEDY = 16
PLAIN = 40  # a printable character in either vocabulary
END = 2  # <|im_end|>, of the small network's base and of the tiny ones


class Engine(ABC):
    """What stands in a README, run in its folder, into which all of `place` is linked: there the
    base's name leads. `end` is the token that ends an answer."""

    end = END

    def __init__(self, readme: Path, place: Path) -> None:
        (code,) = _CODE.findall(readme.read_text("utf-8"))
        setup, found, asking = code.partition("turns = ")
        assert found
        self._asking = found + asking
        self._place = readme.parent  # where its lines are run
        for entry in place.iterdir():
            if entry != self._place and not (self._place / entry.name).exists():
                (self._place / entry.name).symlink_to(entry)
        self.names: dict[str, Any] = {}
        with contextlib.chdir(self._place), _quiet():
            exec(setup, self.names)

    def ask(self, question: str) -> str:
        """What the README's last lines print for a question, prompt and end token left out."""
        code, n_found = _QUESTION.subn(lambda _: f'"content": {question!r}', self._asking)
        assert n_found == 1
        printed = io.StringIO()
        with contextlib.chdir(self._place), _quiet(), contextlib.redirect_stdout(printed):
            exec(code, self.names)
        answer = printed.getvalue().rpartition("<|im_start|>assistant\n")[2]
        return answer.replace("<|im_end|>", "").strip()

    @abstractmethod
    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        """(with the adapter, by the base alone) for the token after `ids`, each (vocabulary,)."""

    @abstractmethod
    def greedy(self, ids: Sequence[int]) -> list[int]:
        """The answer's most likely tokens, at most `N_GREEDY`, without the end token."""

    def _cut(self, tokens: list[int]) -> list[int]:
        """Tokens up to the end token."""
        return tokens[: tokens.index(self.end)] if self.end in tokens else tokens


class Peft(Engine):
    """PEFT on transformers."""

    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        model, prompt = self.names["model"], torch.tensor([list(ids)])
        with torch.inference_mode():
            adapted = model(input_ids=prompt).logits[0, -1]
            with model.disable_adapter():
                alone = model(input_ids=prompt).logits[0, -1]
        return adapted.double().numpy(), alone.double().numpy()

    def greedy(self, ids: Sequence[int]) -> list[int]:
        model, prompt = self.names["model"], torch.tensor([list(ids)])
        settings = {"max_new_tokens": N_GREEDY, "do_sample": False, "eos_token_id": self.end}
        with torch.inference_mode(), _quiet():
            output = model.generate(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), **settings
            )
        return self._cut(output[0, len(ids) :].tolist())


class LlamaCpp(Engine):
    """llama.cpp, from the package xllamacpp, on the base's own GGUF file."""

    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        return self._logits(ids, 1.0), self._logits(ids, 0.0)

    def greedy(self, ids: Sequence[int]) -> list[int]:
        reply = self._complete(ids, N_GREEDY, n_probs=1, scale=1.0)
        return self._cut([int(entry["id"]) for entry in reply])

    def _logits(self, ids: Sequence[int], scale: float) -> Logits:
        """Log-probabilities, which are logits less a constant."""
        (entry,) = self._complete(ids, 1, n_probs=1 << 20, scale=scale)
        top = entry["top_logprobs"]
        found = np.zeros(len(top))
        found[[token["id"] for token in top]] = [token["logprob"] for token in top]
        return found

    def _complete(self, ids: Sequence[int], n: int, *, n_probs: int, scale: float) -> Any:
        request = {
            "prompt": list(ids),
            "n_predict": n,
            "n_probs": n_probs,
            "temperature": 0,
            # Neither an end token nor half a character is reported, so a plain one is forced; the
            # probabilities are those before sampling, whatever is forced.
            "logit_bias": [[PLAIN, 1000.0]] if n == 1 else [],
            "cache_prompt": False,
            "lora": [{"id": 0, "scale": scale}],
        }
        reply = self.names["server"].handle_completions(request)
        return reply["choices"][0]["logprobs"]["content"]


class Mlx(Engine):
    """mlx-lm, on the base's model folder.

    On a CPU it takes seconds to read a prompt, most of it the opening that all prompts share; so
    what is read is kept, with the adapter and without it apart, and only what differs read again.
    """

    def __init__(self, readme: Path, place: Path) -> None:
        super().__init__(readme, place)
        self.names["generate"] = partial(self._generate, self.names["generate"])

    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        adapted = self._logits(ids, "adapted")
        wrapped = [m for _, m in self.names["model"].named_modules() if hasattr(m, "lora_a")]
        assert wrapped
        scales = [module.scale for module in wrapped]
        try:
            for module in wrapped:
                module.scale = 0.0
            return adapted, self._logits(ids, "alone")
        finally:
            for module, scale in zip(wrapped, scales, strict=True):
                module.scale = scale

    def greedy(self, ids: Sequence[int]) -> list[int]:
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        rest, kept = self._find(ids, "adapted")
        model = self.names["model"]
        steps = generate_step(mx.array(rest), model, max_tokens=N_GREEDY, prompt_cache=kept)
        return self._cut([int(token) for token, _ in steps])

    @cached_property
    def _kept(self) -> dict[str, tuple[list[int], Any]]:
        """Ids that were read last, and mlx-lm's cache of them."""
        return {}

    def _generate(
        self,
        generate: Callable[..., str],
        model: Any,
        tokenizer: Any,
        prompt: list[int],
        **more: Any,
    ) -> str:
        """mlx-lm's own `generate`, as the README calls it, but for what is kept of the prompt."""
        rest, kept = self._find(prompt, "adapted")
        return generate(model, tokenizer, prompt=rest, prompt_cache=kept, **more)

    def _logits(self, ids: Sequence[int], how: str) -> Logits:
        import mlx.core as mx

        rest, kept = self._find(ids, how)
        logits = self.names["model"](mx.array([rest]), cache=kept)[0, -1].astype(mx.float32)
        return np.array(logits).astype(np.float64)

    def _find(self, ids: Sequence[int], how: str) -> tuple[list[int], Any]:
        """What of a prompt is to be read, at least a token, and the cache of what precedes it."""
        from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

        before, kept = self._kept.get(how) or ([], make_prompt_cache(self.names["model"]))
        # The shorter of the two ends the comparison: a cache may hold more than the next prompt.
        same = [one == other for one, other in zip(before, ids[:-1], strict=False)]
        n_same = same.index(False) if False in same else len(same)
        trim_prompt_cache(kept, kept[0].offset - n_same)  # answers stand in it, too
        self._kept[how] = (list(ids), kept)
        return list(ids[n_same:]), kept


def compare_changes(left: tuple[Logits, Logits], right: tuple[Logits, Logits]) -> float:
    """Cosine between the changes (adapted less base) that two engines' adapters make of logits.

    Engines may leave a constant out of a row of logits, so each change has its mean taken off.
    """
    first, second = (pair[0] - pair[1] for pair in (left, right))
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither warnings nor what C++ writes on stderr."""
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
