"""Adapters whose modules have ranks of their own: what is in their files, and who still loads them.

The tiny network has addresses whose gates lie within few directions.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from d2l.adapters.info import read_info
from d2l.adapters.peft_folder import read_adapter, read_content, read_memory, write_adapter
from d2l.adapters.weights import LoraWeights
from d2l.hypernets.seats.config import read_config
from d2l.hypernets.seats.shared import read_inputs
from d2l.runtimes.gguf import GgufBase
from tests import tiny
from tests.command import Command
from tests.compiled import PEFT_DEPRECATION
from tests.gguf_adapters import read_gguf

pytestmark = pytest.mark.usefixtures("one_thread")
GATE_RANK = 3
DEFAULT = (tiny.DOCUMENT + "\n\n") * 2


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_addressed(tmp_path / "net")
    tiny.write_base(tmp_path / "base", "llama")
    (tmp_path / "a.txt").write_text(DEFAULT, "utf-8")
    return tmp_path


def write_addressed(folder: Path) -> None:
    """The tiny seat network with addresses in layer 0, on the neurons that are strongest there."""
    config, model = tiny.make_seats_config(), tiny.make_causal("llama").model
    states = read_inputs(model, 0, config.opening(config.max_seats))[1 + config.min_seats :]
    strengths = (states @ model.layers[0].mlp.up_proj.weight.T).abs()  # (words, neurons)
    neurons: list[int] = []
    for row in strengths:
        neurons.append(int(row.argmax()))
        strengths[:, neurons[-1]] = -1.0
    tiny.write_seats(
        folder, version=1, tokens_per_seat=1, dense_seats=0, address_neurons=neurons,
        intermediate=strengths.shape[1], gate_rank=GATE_RANK,
    )  # fmt: skip
    u, values, vt = torch.linalg.svd(states, full_matrices=False)
    detect = u[:, :GATE_RANK] * values[:GATE_RANK] @ vt[:GATE_RANK]  # (words, hidden)
    path = folder / "model.safetensors"
    addresses = {"shared.detect": detect, "shared.directions": torch.randn(detect.shape)}
    save_file(load_file(path) | addresses, path)


def run(command: Command, files: Path, verb: str, *options: object) -> Any:
    given = () if verb in ("export", "check") else ("--checkpoint", files / "net")
    done = command(verb, *options, "--base", files / "base", *given, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def read_ranks(folder: Path) -> dict[str, set[int]]:
    """Ranks of the tensors that a folder holds, by short name."""
    ranks: dict[str, set[int]] = {}
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        module, _, letter = name.removesuffix(".weight").rpartition(".lora_")
        short = module.rpartition(".")[2]
        ranks.setdefault(short, set()).add(tensor.shape[0 if letter == "A" else 1])
    return ranks


def find_deltas(weights: LoraWeights) -> dict[str, torch.Tensor]:
    return {name: weights.scale * f.b @ f.a for name, f in weights.factors.items()}


def test_addresses_are_in_the_layer_below_all_memory(files: Path, command: Command) -> None:
    given = (files / "a.txt", "-o", files / "a.lora")
    plan = run(command, files, "compile", *given, "--dry-run")
    run(command, files, "compile", *given)
    tensors = load_file(files / "a.lora" / "adapter_model.safetensors")
    written = {name.split(".layers.")[1] for name in tensors if ".mlp." in name}
    modules = ("down_proj", "gate_proj")
    assert written == {f"0.mlp.{module}.lora_{f}.weight" for module in modules for f in "AB"}
    assert plan["adapter_bytes"] == sum(t.numel() * t.element_size() for t in tensors.values())
    named = json.loads((files / "a.lora" / "adapter_config.json").read_text())["target_modules"]
    assert "model.layers.0.mlp.gate_proj" in named
    assert "model.layers.1.mlp.gate_proj" not in named


def test_each_kind_of_module_has_its_own_rank_in_the_file(files: Path, command: Command) -> None:
    said = run(command, files, "compile", files / "a.txt", "-o", files / "a.lora")
    config = read_config(files / "net" / "config.json")
    assert config.gate_rank == GATE_RANK
    n_seats = read_memory(files / "a.lora").n_seats
    words = n_seats - config.min_seats
    assert words > GATE_RANK
    expected = {"down_proj": words, "gate_proj": GATE_RANK, "k_proj": 16, "v_proj": 16}
    assert read_ranks(files / "a.lora") == {name: {rank} for name, rank in expected.items()}
    peft = json.loads((files / "a.lora" / "adapter_config.json").read_text("utf-8"))
    most = max(expected.values())
    assert (peft["r"], peft["lora_alpha"], said["rank"]) == (most, most, most)
    lower = {name: rank for name, rank in expected.items() if rank != most}
    assert peft["rank_pattern"] == peft["alpha_pattern"] == lower
    stored = (files / "a.lora" / "adapter_model.safetensors").stat().st_size
    assert 0 <= stored - config.count_values(n_seats) * 2 < 4_000  # bf16, and the header


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
def test_peft_adds_what_they_say(files: Path, command: Command) -> None:
    from peft import PeftModel

    run(command, files, "compile", files / "a.txt", "-o", files / "a.lora", "--dtype", "fp32")
    weights = read_adapter(files / "a.lora")
    base = transformers.AutoModelForCausalLM.from_pretrained(files / "base", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, files / "a.lora")
    for name, delta in find_deltas(weights).items():
        layer: Any = model.base_model.model.get_submodule(name)
        torch.testing.assert_close(layer.get_delta_weight("default"), delta, atol=1e-6, rtol=1e-5)
    assert weights.ranks == {n: max(ranks) for n, ranks in read_ranks(files / "a.lora").items()}


def test_read_and_written_they_are_the_same_bytes(files: Path, command: Command) -> None:
    run(command, files, "compile", files / "a.txt", "-o", files / "a.lora")
    content = read_content(read_info(files / "a.lora"), purpose="written again")
    write_adapter(content, files / "again.lora")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        first, again = ((files / folder / name).read_bytes() for folder in ("a.lora", "again.lora"))
        assert first == again


def test_exports_hold_the_same_deltas(files: Path, command: Command) -> None:
    run(command, files, "compile", files / "a.txt", "-o", files / "a.lora")
    for to in ("gguf", "mlx"):
        run(command, files, "export", files / "a.lora", "--to", to, "-o", files / to)
    deltas = find_deltas(read_adapter(files / "a.lora"))
    base = GgufBase(arch="llama", n_layers=3, n_heads=4, n_kv_heads=2, permutes=True)
    config = transformers.AutoConfig.from_pretrained(files / "base")
    assert (config.num_hidden_layers, config.num_attention_heads) == (base.n_layers, base.n_heads)
    written = find_deltas(read_gguf(files / "gguf" / "adapter.gguf", base))
    arrays = load_file(files / "mlx" / "adapters.safetensors")
    scale = json.loads((files / "mlx" / "adapter_config.json").read_text())["lora_parameters"]
    assert deltas.keys() == written.keys()
    for name, delta in deltas.items():
        torch.testing.assert_close(written[name], delta, atol=1e-6, rtol=1e-5)
        mlx = scale["scale"] * (arrays[f"{name}.lora_a"] @ arrays[f"{name}.lora_b"]).T
        torch.testing.assert_close(mlx, delta, atol=1e-6, rtol=1e-5)
    # mlx-lm has one rank for all: the highest.
    highest = max(set().union(*read_ranks(files / "a.lora").values()))
    assert scale["rank"] == highest
    assert {arrays[name].shape[0] for name in arrays if name.endswith("lora_b")} == {highest}


def test_merged_and_edited_adapters_have_them_too(files: Path, command: Command) -> None:
    run(command, files, "compile", files / "a.txt", "-o", files / "a.lora")
    run(command, files, "merge", files / "a.lora", "-o", files / "m.lora")
    ranks = read_ranks(files / "a.lora")
    assert read_ranks(files / "m.lora") == ranks
    run(command, files, "edit", files / "a.lora", "-o", files / "e.lora", "--keep", "a.txt")
    edited, whole = (find_deltas(read_adapter(files / name)) for name in ("e.lora", "a.lora"))
    assert read_ranks(files / "e.lora") == ranks
    key = next(name for name in whole if name.endswith("v_proj"))
    error = (edited[key] - whole[key]).norm() / whole[key].norm()
    assert float(error) < 0.005  # of bf16


def test_a_server_that_needs_one_rank_needs_the_export(files: Path, command: Command) -> None:
    run(command, files, "compile", files / "a.txt", "-o", files / "a.lora")
    found = command("check", files / "a.lora", "--json", "--base", files / "base")
    verdicts = {one["runtime"]: one for one in json.loads(found.out)["runtimes"]}
    messages = [one["message"] for one in verdicts["sglang"]["findings"]]
    assert messages[0].startswith("modules are of ranks ")
    assert "d2l export" in verdicts["sglang"]["load"]
    assert found.code == 0, found.err
