"""A page and a note, compiled with a network that is shipped, and exported for every engine."""

import importlib.util
import json
import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from d2l.api.compiler import Compiler
from d2l.bases.gguf import add_old_keys
from d2l.bases.models import BaseFiles
from d2l.bases.shards import list_shards
from d2l.documents.document import Document, Source
from d2l.documents.read import read_document
from d2l.hypernets.options import CompileOptions
from d2l.runtimes import export
from d2l.runtimes.export_options import ExportOptions
from tests.bases.gguf_samples import write_dequantized
from tests.engines.engine import Engine
from tests.engines.llama_cpp import LlamaCpp
from tests.engines.mistral_rs import MistralRs
from tests.engines.mlx import Mlx
from tests.engines.ollama import Ollama
from tests.engines.openvino import OpenVino
from tests.engines.peft import Peft
from tests.engines.records import Questions
from tests.kv import measure_little

DATA = Path(__file__).parents[1] / "data" / "engines"
#: Networks that are shipped, the fixture that has the files of their base, and its end token.
NETWORKS = {
    "smollm2-135m": ("smollm2_files", 2),
    "qwen2.5-coder-0.5b": ("qwen_files", 151_645),
    "qwen2.5-coder-1.5b": ("large_files", 151_645),
}
#: What runs an adapter: the module that has to be installed, the class, and the folder whose README
#: it is set up by.
ENGINES: dict[str, tuple[str, type[Engine], str]] = {
    "peft": ("peft", Peft, "doc.lora"),
    "llama.cpp": ("xllamacpp", LlamaCpp, "doc-gguf"),
    "llama.cpp, fp32": ("xllamacpp", LlamaCpp, "doc-gguf"),
    "mistral.rs": ("mistralrs", MistralRs, "doc.lora"),
    "mlx": ("mlx_lm", Mlx, "doc-mlx"),
    "ollama": ("xllamacpp", Ollama, "doc-ollama"),
    "openvino": ("openvino_genai", OpenVino, "doc.lora"),
}
#: Whether what takes many minutes is asked for.
LARGE = bool(os.environ.get("D2L_TEST_LARGE"))
#: Distance of the questions that engines are asked: all fifty of them where many minutes are asked
#: for, ten for a record, else five.
EVERY = 1 if LARGE else 5 if os.environ.get("D2L_RECORD") else 10
#: What is exported besides.
EXPORTS = ("gguf", "mlx", "ollama")
#: A note that takes the fewest seats.
NOTE = "The Orla lighthouse was built in 1874. Its keeper is Anton Reyes."


def read_questions(every: int = 1) -> Questions:
    """Fifty questions about the page, or fewer of them."""
    lines = (DATA / "questions.jsonl").read_text("utf-8").splitlines()[::every]
    return tuple((row["question"], tuple(row["answers"])) for row in map(json.loads, lines))


def need(name: str) -> None:
    """Skip, and say how to get the engine, where it is not installed."""
    package = ENGINES[name][0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{name} is not installed, so nothing is said of it: pip install {package}")


@dataclass(frozen=True)
class Exports:
    """A compiled adapter with its exports, in a folder where all names in their READMEs lead."""

    place: Path
    base_name: str
    n_seats: int
    end: int
    base: str | None = None  # its folder, if its name leads nowhere

    @property
    def template(self) -> Path:
        """The adapter's own chat template."""
        return self.place / "doc.lora" / "chat_template.jinja"

    @cache  # noqa: B019 - as long as the module's tests run
    def engine(self, name: str) -> Engine:
        """An engine, set up as the README says."""
        need(name)
        _, make, folder = ENGINES[name]
        place = self.dequantized() if name == "llama.cpp, fp32" else self.place
        engine = make(place / folder / "README.md", place)
        engine.end = self.end
        return engine

    @property
    def peft(self) -> Peft:
        """PEFT on the adapter's own folder."""
        peft = self.engine("peft")
        assert isinstance(peft, Peft)
        return peft

    def dequantized(self) -> Path:
        """A place where the base's file has its matrices in fp32, and all else is the same."""
        (gguf,) = self.place.glob("*.gguf")
        place = self.place / "dequantized"
        place.mkdir()
        write_dequantized(gguf, place / gguf.name)
        # Exported anew: in the other folder the base's name leads to the file as it is.
        options = ExportOptions("gguf", self.base, offline=True)
        export.run(self.place / "doc.lora", place / "doc-gguf", options)
        return place


def compile_and_export(network: str, files: BaseFiles, text: str, place: Path) -> Exports:
    """Compile a text with a network and export it for all engines."""
    list_shards(files)  # makes its weights
    assert files.gguf is not None
    path = place / "doc.txt"
    path.write_text(text)
    documents = [read_document(Source(str(path), path))]  # so that `check --live` finds it again
    options = CompileOptions(checkpoint=network, device="cpu", offline=True)
    adapter = Compiler(options)(documents)
    adapter.save_pretrained(place / "doc.lora")
    for to in EXPORTS:
        export.run(place / "doc.lora", place / f"doc-{to}", ExportOptions(to, offline=True))
    # The base's name leads to its folder, and its file's name to the file.
    folder = place / files.name
    folder.mkdir(parents=True)
    for path in files.folder.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "config.json").unlink()
    shutil.copyfile(files.folder / "config.json", folder / "config.json")
    add_old_keys(folder / "config.json")  # an unpacked folder of an earlier version has fewer
    (place / files.gguf.name).symlink_to(files.gguf)
    hub = place / f"{files.name}-GGUF"  # what the card loads where only the file fits
    hub.mkdir()
    (hub / files.gguf.name).symlink_to(files.gguf)
    return Exports(place, files.name, adapter.weights.rank, NETWORKS[network][1])


def compile_own(files: BaseFiles, place: Path) -> Exports:
    """Compile a note by the own keys and values of a base that is in no table: a folder."""
    list_shards(files)  # makes its weights
    assert files.gguf is not None
    base = place / "unpacked"
    base.mkdir()
    for path in files.folder.iterdir():
        (base / path.name).symlink_to(path)
    (place / "unpacked.gguf").symlink_to(files.gguf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2L_CACHE_DIR", str(place / "cache"))
        measure_little(patch, n_tokens=1500)
        options = CompileOptions("kv", str(base), "cpu", offline=True)
        adapter = Compiler(options)([Document.from_text(NOTE, name="note.txt")])
    adapter.save_pretrained(place / "doc.lora")
    options = ExportOptions("gguf", str(base), offline=True)
    export.run(place / "doc.lora", place / "doc-gguf", options)
    end = NETWORKS["smollm2-135m"][1]
    return Exports(place, base.name, adapter.weights.rank, end, str(base))
