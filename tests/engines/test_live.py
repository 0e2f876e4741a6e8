"""`check --live` against the servers of llama.cpp and mlx-lm: what is wrong there is recognized.

On the small network, with llama.cpp on its base's own 4-bit file, whose kernels round. mlx-lm reads
prompts slowly on a CPU, so its cases run where one asks for them: `D2L_TEST_LARGE=1`.
`tests/evaluation/test_live.py` asks PEFT's server.
"""

import contextlib
import gc
import json
import logging
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pytest

from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.bases.models import BaseFiles
from d2l.evaluation import live
from d2l.evaluation.endpoint import Endpoint, EndpointReply
from d2l.evaluation.live import answer_in_state, check_live
from tests.engines.exports import DATA, LARGE, Exports, compile_and_export, need
from tests.processes import make_environment

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
log = logging.getLogger(__name__)  # shown by --log-cli-level=INFO
OTHER = "The copper valve in the cellar is opened first. Ask Bettina Horak for its key. " * 3


@dataclass(frozen=True)
class Case:
    """What a server does, and the state that the check is to name; "" where it fits none."""

    state: str
    scale: float | None = 1.0  # None leaves the adapter out
    own_template: bool = True
    other: bool = False


CASES = (
    Case("in effect"),
    Case("at half its strength", scale=0.5),
    Case("in effect, but without its template", own_template=False),
    Case("", other=True),
    Case("at twice its strength", scale=2.0),
    Case("left out", scale=None),
    Case("left out, and so is its template", scale=None, own_template=False),
)


@pytest.fixture(scope="module")
def documents(
    smollm2_files: BaseFiles, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Exports]:
    """A page, and another document."""
    texts = {"page": (DATA / "lighthouse.txt").read_text("utf-8"), "other": OTHER}
    return {
        name: compile_and_export("smollm2-135m", smollm2_files, text, tmp_path_factory.mktemp(name))
        for name, text in texts.items()
    }


@pytest.fixture(scope="module")
def peft_answers_once() -> Iterator[None]:
    """PEFT loads the page's adapter once, and answers in each state once: every case asks it the
    same."""
    kept: dict[tuple[object, ...], list[EndpointReply]] = {}

    def answer(adapted: AdaptedModel, questions: Sequence[str], state: str) -> list[EndpointReply]:
        key = (id(adapted), *questions, state)
        if key not in kept:
            kept[key] = answer_in_state(adapted, questions, state)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live.AdaptedModel, "load", cache(AdaptedModel.load))
        patch.setattr(live, "answer_in_state", answer)
        yield


@contextlib.contextmanager
def serve_llama(served: Exports, case: Case) -> Iterator[str]:
    """The address of llama-server, which the package xllamacpp runs in the process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    (gguf,) = served.place.glob("*.gguf")
    params.model.path = str(gguf)
    if case.scale is not None:
        adapter = str(served.place / "doc-gguf" / "adapter.gguf")
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, case.scale)]
    if case.own_template:
        params.chat_template = served.template.read_text("utf-8")
        params.use_jinja = True
    params.n_ctx, params.n_parallel, params.warmup = 2048, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    try:
        yield str(server.listening_address)
    finally:
        del server
        gc.collect()


@contextlib.contextmanager
def serve_mlx(served: Exports, case: Case) -> Iterator[str]:
    """The address of mlx_lm.server, started with the words of the line that `d2l check` prints."""
    folder = served.place / f"mlx-{case.scale}"
    words = ["--model", served.base_name]
    if case.scale is not None:
        shutil.copytree(served.place / "doc-mlx", folder, dirs_exist_ok=True)
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        config["lora_parameters"]["scale"] *= case.scale
        (folder / "adapter_config.json").write_text(json.dumps(config))
        words += ["--adapter-path", folder.name]
    if case.own_template:
        words += ["--chat-template", served.template.read_text("utf-8")]
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_lm", "server", *words, "--port", str(port)]
    environment = make_environment(HF_HUB_OFFLINE="1")
    process = subprocess.Popen(
        command, cwd=served.place, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/health")
        yield address
    finally:
        process.kill()
        process.wait()


def wait_for(url: str) -> None:
    """Wait until a server answers, a minute at most."""
    for _ in range(240):
        with contextlib.suppress(OSError), urllib.request.urlopen(url):
            return
        time.sleep(0.25)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.usefixtures("peft_answers_once")
@pytest.mark.parametrize(
    ("engine", "case"),
    [*(("llama.cpp", case) for case in CASES), *(("mlx", case) for case in CASES[:4])],
    ids=lambda value: getattr(value, "state", value) or "another adapter",
)
def test_what_is_wrong_at_a_server_is_recognized(
    engine: str, case: Case, documents: dict[str, Exports]
) -> None:
    need(engine)
    if engine == "mlx" and not LARGE:
        pytest.skip("mlx-lm takes minutes on a CPU: D2L_TEST_LARGE=1 asks for it")
    serve = serve_llama if engine == "llama.cpp" else serve_mlx
    with serve(documents["other" if case.other else "page"], case) as address:
        # mlx-lm's name for what it was started with; llama-server takes any.
        endpoint = Endpoint(address, "default_model")
        asking = AskOptions(device="cpu", offline=True)
        report = check_live(documents["page"].place / "doc.lora", endpoint, asking)
    log.info("%s, %s: %s", engine, case, report["distances"])
    assert report["by"] == "token probabilities"
    assert report["states"] == ([case.state] if case.state else []), report["distances"]
    assert report["passes"] == (case.state == "in effect")
