"""llama.cpp, in the process, from the package xllamacpp."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.engines.engine import N_GREEDY, PLAIN, Engine, Logits, Scored


class LlamaCpp(Engine):
    """llama.cpp, from the package xllamacpp, on the base's own GGUF file."""

    name, package = "llama.cpp", "xllamacpp"

    def prepare(self, setup: str) -> str:
        """With one thread: several would wait for each other, beside tests on the other cores."""
        threads = "params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1\n"
        return setup.replace("server = ", f"{threads}server = ")

    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        return self._logits(ids, 1.0), self._logits(ids, 0.0)

    def greedy(self, ids: Sequence[int]) -> Scored:
        reply = self._complete(ids, N_GREEDY, n_probs=1, scale=1.0)
        return self._cut([(int(entry["id"]), float(entry["logprob"])) for entry in reply])

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
        }
        server, fields = self._serve(scale)
        reply = server.handle_completions(request | fields)
        return reply["choices"][0]["logprobs"]["content"]

    def _serve(self, scale: float) -> tuple[Any, dict[str, Any]]:
        """The server, and fields of a request to it that put the adapter at this strength."""
        return self.names["server"], {"lora": [{"id": 0, "scale": scale}]}
