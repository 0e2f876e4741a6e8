"""What `d2l export --to ollama` writes, in llama.cpp, asked in the way of Ollama."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.engines.engine import quiet
from tests.engines.llama_cpp import LlamaCpp
from tests.tools.go_template import collate, render


class Ollama(LlamaCpp):
    """The merged file that a Modelfile names, beside the base's own; prompts are made of the
    Modelfile's TEMPLATE and SYSTEM."""

    name, how = "ollama", "merged GGUF in "

    def __init__(self, readme: Path, place: Path) -> None:
        self._folder, self._place = readme.parent, place
        self._modelfile = (self._folder / "Modelfile").read_text("utf-8")

    def ask(self, question: str) -> str:
        system = re.search(r'SYSTEM """(.*?)"""', self._modelfile, re.DOTALL)
        turns = [{"role": "system", "content": system[1]}] if system else []
        turns.append({"role": "user", "content": question})
        (template,) = re.findall(r'TEMPLATE """(.*?)"""', self._modelfile, re.DOTALL)
        request = {"prompt": render(template, collate(turns)), "n_predict": 40, "temperature": 0}
        request["stop"] = re.findall(r'^PARAMETER stop "(.*)"$', self._modelfile, re.MULTILINE)
        reply = self._merged.handle_completions(request)
        return str(reply["choices"][0]["text"]).strip()

    def _serve(self, scale: float) -> tuple[Any, dict[str, Any]]:
        return (self._merged if scale else self._base), {}

    @cached_property
    def _merged(self) -> Any:
        (name,) = re.findall(r"^FROM (.*)$", self._modelfile, re.MULTILINE)
        return _start(self._folder / name)

    @cached_property
    def _base(self) -> Any:
        (path,) = self._place.glob("*.gguf")
        return _start(path)


def _start(model: Path) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel = 4096, 1
    with quiet():
        return xllamacpp.Server(params)
