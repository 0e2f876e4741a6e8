"""vLLM on a CPU: an adapter of a note says what it says in PEFT, in the process and at its server.

`make test-vllm` makes the environment; without it all of this is skipped. A page's ranks are more
than the kernel for CPUs has memory and time for, and the kernels for GPUs were not run.
"""

import contextlib
import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from d2l.adapters.peft_config import VLLM_RANKS
from d2l.answer.options import AskOptions
from d2l.api.compiler import Compiler
from d2l.bases.models import BaseFiles
from d2l.bases.shards import list_shards
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.evaluation.endpoint import Endpoint
from d2l.evaluation.live import RIGHT, check_live
from d2l.hypernets.options import CompileOptions
from d2l.runtimes.check import CheckOptions, check
from d2l.runtimes.runtime import REFUSES
from tests.adapter_cases import CASES, write
from tests.engines.exports import NETWORKS, NOTE, compile_and_export
from tests.engines.records import Questions, keep, measure
from tests.engines.vllm import ROOT, Vllm, judge, need_vllm, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread"),
]
log = logging.getLogger(__name__)  # shown by --log-cli-level=INFO
#: Ten questions about the note.
QUESTIONS: Questions = (
    ("When was the Orla lighthouse built?", ("1874",)),
    ("In which year was the lighthouse built?", ("1874",)),
    ("What was built in 1874?", ("lighthouse",)),
    ("How old is the Orla lighthouse? Name the year in which it was built.", ("1874",)),
    ("What is the name of the lighthouse?", ("Orla",)),
    ("Who is the keeper of the Orla lighthouse?", ("Anton Reyes",)),
    ("What is the name of the keeper?", ("Anton Reyes",)),
    ("What is the family name of the keeper?", ("Reyes",)),
    ("What is the first name of the keeper?", ("Anton",)),
    ("What does Anton Reyes keep?", ("lighthouse",)),
)
#: Notes of sentences that are long enough to be cut in two; their seats are more than the base's
#: own template has tokens for.
NOTES = {
    "small": "The Orla lighthouse on the island of Skarn was built by Ida Holm in 1874. The keeper "
    "Anton Reyes lights the lamp of the tower at nine in the evening. A ferry brings oil and bread "
    "to the island on the first Monday of the month.",
    "other": "The Harn bridge over the river Elme was opened by Olga Petrov in 1931. The warden "
    "Tom Baker closes the gate of the bridge at ten in the evening. A painter gives the arches of "
    "the bridge a coat of green every third summer.",
}


@pytest.mark.parametrize("network", list(NETWORKS)[:2])  # the third takes 3.5 GB more
def test_vllm_answers_as_peft(network: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    need_vllm()
    files: BaseFiles = request.getfixturevalue(NETWORKS[network][0])
    exports = compile_and_export(network, files, NOTE, tmp_path)
    with Vllm(tmp_path, files.name) as engine:
        engine.end = exports.end
        run = measure(engine, exports.peft, network, exports.n_seats, QUESTIONS)
        for question, _ in QUESTIONS[::5]:  # the base, by requests for it alone
            ids = exports.peft.encode(question)
            rows = (exports.peft.logits(ids)[1], engine.logits(ids)[1])
            ours, theirs = (torch.tensor(row).log_softmax(-1).numpy() for row in rows)
            assert np.abs(ours - theirs).max() < 0.01
    assert run.cosine is not None
    assert run.cosine > 0.999
    assert run.equal >= 9
    keep(run)


def test_vllm_refuses_what_is_said_that_it_refuses(bases: Path, tmp_path: Path) -> None:
    need_vllm()
    adapters = {name: write(one, tmp_path / str(n)) for n, (name, one) in enumerate(CASES.items())}
    ranks = {name: case.max_lora_rank or VLLM_RANKS[-1] for name, case in CASES.items()}
    refused = judge([(str(adapters[name]), ranks[name]) for name in CASES])
    for (name, case), error in zip(CASES.items(), refused, strict=True):
        base = str(bases / f"{case.family}-tiny")
        report = check(adapters[name], CheckOptions(("vllm",), case.max_lora_rank, base, True))
        (verdict,) = report.verdicts
        found = [f for f in verdict.findings if f.effect == REFUSES]
        refuses = bool(found) or name == "no rank"  # which is a fault, whoever loads it
        assert refuses == (error is not None), (name, error, found)


# ---- the server --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf(smollm2_files: BaseFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the base's name leads to its folder, with adapters in `shelf`: two notes',
    and the first at twice its strength."""
    need_vllm()
    place = tmp_path_factory.mktemp("vllm")
    list_shards(smollm2_files)  # makes its weights
    (place / smollm2_files.name).parent.mkdir()
    (place / smollm2_files.name).symlink_to(smollm2_files.folder)
    compiler = Compiler(CompileOptions("smollm2-135m", device="cpu", offline=True, max_rank=30))
    for name, text in NOTES.items():
        path = place / f"{name}.txt"
        path.write_text(text)
        adapter = compiler(compiler.plan(read_document(Source(str(path), path))))
        adapter.save_pretrained(place / "shelf" / f"{name}.lora")
    double = shutil.copytree(place / "shelf" / "small.lora", place / "shelf" / "double.lora")
    config = json.loads((double / "adapter_config.json").read_text())
    config["lora_alpha"] *= 2
    (double / "adapter_config.json").write_text(json.dumps(config))
    return place


def read_guide(place: Path, base: str) -> tuple[str, str]:
    """The guide's lines for many documents: what is exported, and what is started."""
    guide = (ROOT / "examples" / "serving" / "README.md").read_text("utf-8")
    (lines,) = re.findall(r"^(export VLLM.*?^vllm serve .*?)$", guide, re.DOTALL | re.MULTILINE)
    lines = lines.replace("/data/adapters", str(place / "shelf")).replace("BASE", base)
    exports, _, line = lines.rpartition("\n")
    return exports, line.replace("TEMPLATE", "shelf/small.lora/chat_template.jinja")


def ask(place: Path, url: str, model: str) -> list[str]:
    """The states that `d2l check --live` finds there."""
    asking = AskOptions(device="cpu", offline=True)
    report = check_live(place / "shelf" / "small.lora", Endpoint(url, model), asking)
    log.info("%s: %s", model, report["distances"])
    states: list[str] = report["states"]
    return states


def test_the_live_check_tells_what_vllm_does(shelf: Path, smollm2_files: BaseFiles) -> None:
    base = smollm2_files.name
    exports, line = read_guide(shelf, base)
    with contextlib.chdir(shelf):
        report = check(Path("shelf/small.lora"), CheckOptions(("vllm",), offline=True))
    with serving(f"{exports}\n{report.runtimes['vllm'].load}", shelf) as url:
        assert ask(shelf, url, "small") == [RIGHT]
        assert ask(shelf, url, base) == ["left out"]
        assert ask(shelf, url, "double.lora") == ["at twice its strength"]
        assert ask(shelf, url, "other.lora") == []
    plain, _, _ = line.partition(" --chat-template")
    with serving(f"{exports}\n{plain}", shelf) as url:
        assert ask(shelf, url, "small.lora") == ["in effect, but without its template"]
        assert ask(shelf, url, base) == ["left out, and so is its template"]
