"""The live check against llama-server, from the package xllamacpp, with an exported GGUF adapter.

On the small network and its base's own 4-bit file, where llama.cpp's kernels round.
"""

import gc
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from d2l.api.compiler import Compiler
from d2l.bases.models import BaseFiles, load_frozen
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.evaluation.endpoint import Endpoint
from d2l.evaluation.live import check_live
from d2l.hypernets.options import CompileOptions
from d2l.inference.adapted_model import AskOptions
from d2l.runtimes import export
from d2l.runtimes.export import ExportOptions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
log = logging.getLogger(__name__)  # shown by --log-cli-level=INFO
HANDBOOK = Path(__file__).parents[2] / "examples" / "handbook.pdf"


@dataclass(frozen=True)
class Exported:
    """An adapter, and what llama-server loads of it."""

    adapter: Path
    base: Path
    gguf: Path
    template: str


@pytest.fixture(scope="module")
def exported(smollm2_files: BaseFiles, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp is not installed, so nothing is said of it: pip install xllamacpp")
    assert smollm2_files.gguf is not None
    load_frozen(smollm2_files, device="cpu", dtype=torch.float32, n_layers=1)  # makes its weights
    place = tmp_path_factory.mktemp("llama")
    compiler = Compiler(CompileOptions("smollm2-135m", device="cpu", offline=True))
    plan = compiler.plan(read_document(Source(str(HANDBOOK), HANDBOOK)))
    adapter = compiler(plan).save_pretrained(place / "handbook.lora")
    export.run(adapter, place / "gguf", ExportOptions("gguf", offline=True))
    return Exported(
        adapter,
        smollm2_files.gguf,
        place / "gguf" / "adapter.gguf",
        (adapter / "chat_template.jinja").read_text("utf-8"),
    )


@contextmanager
def llama_server(exported: Exported, scale: float | None, own_template: bool) -> Iterator[str]:
    """Its address; `scale` None leaves the adapter out."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(exported.base)
    if scale is not None:
        info = xllamacpp.CommonAdapterLoraInfo(str(exported.gguf), scale)
        params.lora_adapters = [info]
    if own_template:
        params.chat_template = exported.template
        params.use_jinja = True
    params.n_ctx, params.n_parallel, params.warmup = 2048, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    try:
        yield str(server.listening_address)
    finally:
        del server
        gc.collect()


@pytest.mark.parametrize(
    ("state", "scale", "own_template"),
    [
        ("in effect", 1.0, True),
        ("left out", None, True),
        ("left out, and so is its template", None, False),
        ("at half its strength", 0.5, True),
        ("in effect, but without its template", 1.0, False),
    ],
)
def test_every_state_of_an_exported_adapter_is_recognized(
    state: str, scale: float | None, own_template: bool, exported: Exported
) -> None:
    with llama_server(exported, scale, own_template) as address:
        asking = AskOptions(device="cpu", offline=True)
        report = check_live(exported.adapter, Endpoint(address, "any"), asking)
    log.info("%s: %s", state, report["distances"])
    assert report["by"] == "token probabilities"
    assert report["states"] == [state], report["distances"]
    assert report["passes"] == (state == "in effect")
