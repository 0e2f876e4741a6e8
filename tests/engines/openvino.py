"""OpenVINO GenAI, on the base as Optimum converts it."""

import contextlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2l.adapters.info import read_info
from d2l.runtimes.adapter_facts import Facts
from d2l.runtimes.catalog import RUNTIMES
from d2l.runtimes.runtime import load_line
from tests.engines.engine import N_GREEDY, Engine, Logits, Scored


class OpenVino(Engine):
    """OpenVINO GenAI, set up by the line that `d2l check` prints for the folder of `readme`."""

    name, package, has_logits = "openvino", "openvino-genai", False

    def __init__(self, readme: Path, place: Path) -> None:
        import openvino_genai

        facts = Facts(read_info(readme.parent))
        convert = shutil.which("optimum-cli")
        if convert is None:
            pytest.skip("optimum-cli is not on the path, so no base can be converted for OpenVINO")
        base, out = place / facts.base_name, place / f"{facts.base_name}-openvino"
        words = ["export", "openvino", "--model", base, "--weight-format", "fp32", out]
        task = ["--task", "text-generation-with-past"]
        subprocess.run([convert, *map(str, words[:4]), *task, *map(str, words[4:])], check=True)
        self.names: dict[str, Any] = {"openvino_genai": openvino_genai}
        with contextlib.chdir(place):
            exec(load_line(RUNTIMES["openvino"], facts), self.names)
        self._pipe = self.names["pipe"]

    def ask(self, question: str) -> str:
        return str(self._pipe.generate(question, max_new_tokens=40)).strip()

    def logits(self, ids: Sequence[int]) -> tuple[Logits, Logits]:
        raise NotImplementedError("it tells no logits: has_logits")

    def greedy(self, ids: Sequence[int]) -> Scored:
        """It tells the log-probability of an answer alone: a token's is what it adds to that."""
        from openvino import Tensor

        config = self._pipe.get_generation_config()
        config.logprobs, config.do_sample, config.apply_chat_template = 1, False, False
        answer, before = Scored(), 0.0
        while len(answer) < N_GREEDY:
            config.max_new_tokens = len(answer) + 1
            found = self._pipe.generate(Tensor(np.array([ids])), config)
            token, score = found.tokens[0][-1], found.scores[0]
            if token == self.end or len(found.tokens[0]) == len(answer):
                break
            answer.append((token, score - before))
            before = score
        return answer
