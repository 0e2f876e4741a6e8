"""A first run with a checkpoint from the hub: what is asked, what is fetched, and what is said."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import constants
from safetensors.torch import load_file

import d2l
from d2l.bases import devices
from d2l.bases.families import FAMILIES, Reading
from d2l.bases.footprint import count_reading
from d2l.compiler import preflight
from d2l.hypernets.doc_to_lora.network import WIDEST
from d2l.hypernets.registry import ALIASES, Alias
from tests import tiny
from tests.command import Command
from tests.files.hub_server import COMMIT, REPO, Hub, serve_hub
from tests.hypernets import networks

pytestmark = pytest.mark.usefixtures("one_thread")

NAME, BASE = f"{REPO}:run", tiny.base_name("llama")
WEIGHTS = "run/checkpoint-20/pytorch_model.bin"
COMPILE = ("compile", "note.txt", "-o", "note.lora", "--device", "cpu", "--checkpoint", NAME)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Files of two repositories: runs of a released network, and its base in two shards."""
    folder = tmp_path_factory.mktemp("stored")
    config = tiny.make_doc_to_lora_config("llama", latent_size=64)
    networks.write_released(folder / "network.bin", config, networks.make_tensors(config))
    tiny.write_base(folder / "base", "llama")
    base = {path.name: path.read_bytes() for path in (folder / "base").iterdir()}
    whole = base.pop("model.safetensors")
    names = load_file(folder / "base" / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    pickle = (folder / "network.bin").read_bytes()
    return {
        REPO: {
            "run/args.yaml": b"max_ctx_chunk_len: 60\n",
            WEIGHTS: pickle,
            "run/checkpoint-20/optimizer.pt": b"optimizer",
            "run/checkpoint-5/pytorch_model.bin": b"an older one",
            "other/pytorch_model.bin": b"of another run",
        },
        BASE: base
        | {
            "model.safetensors.index.json": json.dumps(index).encode(),
            "model-00001-of-00001.safetensors": whole,
            "consolidated.safetensors": b"the same once more",
            "original/params.json": b"{}",
        },
    }


@pytest.fixture
def hub(
    stored: dict[str, dict[str, bytes]], working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    (working_folder / "note.txt").write_text(tiny.DOCUMENT)
    with serve_hub(stored[REPO], working_folder / "hub", monkeypatch) as server:
        server.others[BASE] = dict(stored[BASE])
        yield server


def test_a_plan_fetches_no_weights(hub: Hub, command: Command) -> None:
    planned = command(*COMPILE, "--dry-run", "--json")
    assert planned.code == 0, planned.err
    texts = {name for name in hub.others[BASE] if name.endswith(".json") and "/" not in name}
    assert hub.asked == {"run/args.yaml", *(f"{BASE}:{text}" for text in texts)}
    assert 0 < hub.n_ranged < len(hub.files[WEIGHTS])
    row = f"needs       {NAME}         3.6 MB  commit {COMMIT[:12]}  access: yes"
    assert planned.err.splitlines()[0] == row
    shown = json.loads(command("checkpoints", "ls", NAME, "--json").out)
    assert (shown["path"], shown["sha256"], shown["commit"]) == (None, None, COMMIT)


def test_of_a_text_network_the_embedder_is_asked_and_the_bases_config_fetched(
    hub: Hub, command: Command, tmp_path: Path
) -> None:
    def read(folder: Path, below: str = "") -> dict[str, bytes]:
        return {below + path.name: path.read_bytes() for path in folder.iterdir()}

    network = tiny.write_text_to_lora(tmp_path / "network", "llama", "tiny-org/embedder")
    hub.files |= read(network, "text/")
    hub.others["tiny-org/embedder"] = read(tiny.write_encoder(tmp_path / "encoder"))
    task = ("make", "Summarize contracts.", "-o", "task.lora", "--device", "cpu")
    planned = command.t2l(*task, "--checkpoint", f"{REPO}:text", "--dry-run")
    assert planned.code == 0, planned.err
    assert hub.asked == {
        "text/args.yaml",
        "text/adapter_config.json",
        "tiny-org/embedder:config.json",
        "tiny-org/embedder:tokenizer.json",
        f"{BASE}:config.json",
    }
    needs = [line.split() for line in planned.err.splitlines()[:2]]
    assert [row[-1] for row in needs] == ["yes", "yes"]
    assert (needs[0][1], needs[1][0]) == (f"{REPO}:text", "tiny-org/embedder")


def test_all_is_fetched_once_and_then_nothing_is_asked(hub: Hub, command: Command) -> None:
    planned = json.loads(command(*COMPILE, "--dry-run", "--json").out)
    done = command(*COMPILE, "--json")
    assert done.code == 0, done.err
    assert re.search(r"^tokens +\d+ in \d chunks\nrank +\d+, 0\.\d MB\ntime +", done.err, re.M)
    made = json.loads(done.out)
    assert (made["rank"], made["adapter_bytes"]) == (planned["rank"], planned["adapter_bytes"])
    weights = {WEIGHTS, f"{BASE}:model-00001-of-00001.safetensors"}
    assert {name for name in hub.asked if not name.endswith((".json", ".yaml"))} == weights
    assert json.loads(command("checkpoints", "ls", NAME, "--json").out)["commit"] == COMMIT
    hub.asked.clear()
    hub.broken = "drop"
    Path("note.txt").write_text("The valve is copper.")
    again = command(*COMPILE, "--force")
    assert (again.code, hub.asked) == (0, set()), again.err
    assert "needs" not in again.err


@pytest.mark.parametrize("refused", [{REPO: 403, BASE: 401}, {BASE: 403}])
def test_both_repositories_are_asked_before_anything_is_fetched(
    refused: dict[str, int], hub: Hub, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    alias = Alias("tiny", "doc_to_lora", BASE, "none", 1_000_000, NAME, COMMIT)
    monkeypatch.setitem(ALIASES, "tiny", alias)
    hub.refused = refused
    done = command(*COMPILE[:-1], "tiny")
    assert (done.code, WEIGHTS in hub.asked) == (1, False)
    terms = "this machine's user has not accepted its terms"
    assert f"error: {next(iter(refused))}: {terms}" in done.err
    for repo in refused:
        page = f"accept its terms at {constants.ENDPOINT}/{repo}, then run `hf auth login`"
        assert re.search(
            rf" +{repo}\S* +\S+ MB +commit {COMMIT[:12]}  access: no, {page}", done.err
        )
    with pytest.raises(d2l.D2LError, match=terms):  # and so it is for all ways to a network
        d2l.Compiler.from_pretrained("tiny", device="cpu").plan(["note.txt"])
    assert WEIGHTS not in hub.asked


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    hub: Hub, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "free_bytes", lambda: 1_000_000)
    done = command(*COMPILE)
    assert (done.code, WEIGHTS in hub.asked) == (1, False)
    assert "error: 3.8 MB have to be fetched, and the disk has 1.0 MB free\n" in done.err


def test_check_says_whether_a_network_can_run_here(
    hub: Hub, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "pick_device", lambda device: device)
    monkeypatch.setattr(preflight.Preflight, "gpu", ("A GPU", 3_000_000))
    check = ("checkpoints", "check", NAME, "--device", "cuda")
    shown = command(*check)
    assert shown.code == 1
    assert "gpu         A GPU, 3.0 MB free, about" in shown.out
    assert "error: the GPU needs about" in shown.err
    values = json.loads(command(*check, "--json").out)
    assert [row["access"] for row in values["needs"]] == [True, True]
    assert WEIGHTS not in hub.asked


def test_check_of_what_is_on_disk_asks_nothing(command: Command) -> None:
    done = command("checkpoints", "check", "smollm2-135m", "--device", "cpu", "--offline")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].split() == ["needs", "smollm2-135m", "on", "disk"]


def test_the_memory_of_gemma_is_estimated_without_squares_of_tokens() -> None:
    config = transformers.Gemma2Config()  # its defaults are those of the 2B model
    reader: Any = SimpleNamespace(config=config, family=FAMILIES["gemma2"])
    reading, network = Reading(25, tuple(range(26))), 1.26
    for n_tokens, gigabytes in ((512, 7.1), (8192, 8.9)):  # of them the base has 5.07
        beside = 3 * min(26 * 4 * n_tokens * 2304, max(WIDEST, 4 * n_tokens * 2304))
        estimate = count_reading(reader, reading, n_tokens, "cuda", torch.bfloat16, beside) / 1e9
        assert estimate + network == pytest.approx(gigabytes, abs=0.05)
