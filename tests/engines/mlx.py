"""mlx-lm, on its CPU build here."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines.engine import N_GREEDY, Engine, Logits, Scored


class Mlx(Engine):
    """mlx-lm, on the base's model folder.

    On a CPU it takes seconds to read a prompt, most of it the opening that all prompts share; so
    what is read is kept, with the adapter and without it apart, and only what differs read again.
    """

    name, package = "mlx", "mlx-lm"

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

    def greedy(self, ids: Sequence[int]) -> Scored:
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        rest, kept = self._find(ids, "adapted")
        model = self.names["model"]
        steps = generate_step(mx.array(rest), model, max_tokens=N_GREEDY, prompt_cache=kept)
        return self._cut([(int(token), float(scores[token])) for token, scores in steps])

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
