"""SHINE in the release's full size, with random weights: memory as the preflight names it."""

import json
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from d2l.bases.footprint import count_reading
from d2l.bases.models import BaseFiles
from d2l.hypernets.formats.native import make_empty
from d2l.hypernets.networks import find_format
from d2l.hypernets.registry import ALIASES, CheckpointFiles
from d2l.hypernets.shine.network import TRAINED_TOKENS, Shine, ShineConfig
from tests.processes import run_python

SIZES = {"q": (4096, 4096), "k": (4096, 1024), "v": (4096, 1024), "o": (4096, 4096)}
MLP = {"gate": (4096, 12288), "up": (4096, 12288), "down": (12288, 4096)}
CONFIG = ShineConfig(
    base="Qwen/Qwen3-8B",
    n_layers=36,
    hidden=4096,
    d_in=tuple(d_in for d_in, _ in (SIZES | MLP).values()),
    d_out=tuple(d_out for _, d_out in (SIZES | MLP).values()),
    n_memory=148,
    meta_rank=128,
    n_mixers=4,
    n_heads=32,
    feed_forward=8192,
    scale=0.001,
)
BASE = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
}
#: Loads the network, writes an adapter of random states; prints bytes before and at the peak.
SCRIPT = """
import re, sys
from pathlib import Path
import torch
from d2l.bases.activations import Activations
from d2l.hypernets.networks import load_hypernet
def peak(): return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
status = Path("/proc/self/status")  # of this process alone: `ru_maxrss` begins with its parent's
before = peak()
network = load_hypernet(Path(sys.argv[1]), device="cpu")
network.metalora.to(torch.bfloat16)
weights = network.generate(Activations(list(torch.randn(36, 148, 4096))), 8)
print(before, peak(), weights.rank, len(weights.factors))
"""


def test_the_table_and_the_guide_have_the_sizes_of_the_release(tmp_path: Path) -> None:
    n_values = sum(tensor.numel() for tensor in make_empty(Shine, CONFIG).state_dict().values())
    assert (n_values, CONFIG.rank) == (537_804_800 + 349_175_808 + 606_208, 8)
    assert CONFIG.count_values(8) == 21_823_488
    for alias in ALIASES.values():
        assert alias.network != "shine" or alias.size_bytes == round(4 * n_values, -7)
    (tmp_path / "config.json").write_text(json.dumps(BASE))
    base, reading = BaseFiles("Qwen/Qwen3-8B", tmp_path), CONFIG.reading
    beside = make_network(tmp_path).count_working(TRAINED_TOKENS)
    needed = count_reading(base, reading, TRAINED_TOKENS, "cuda", torch.bfloat16, beside)
    assert round((4 * n_values + needed) / 1e9, 1) == 19.4


def make_network(folder: Path):
    """The network without weights."""
    from d2l.hypernets.shine.compiling import ShineNetwork

    files = CheckpointFiles("shine/qwen3-8b", folder)
    return ShineNetwork(files, CONFIG, ShineNetwork.formats[0])


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("D2L_TEST_LARGE"), reason="3.6 GB of disk, 8 GB of memory: D2L_TEST_LARGE=1"
)
def test_full_size_loads_in_the_memory_that_the_preflight_names(tmp_path: Path) -> None:
    block = torch.randn(1 << 16) * 0.02

    def draw(*shape: int) -> torch.Tensor:
        n_values = torch.Size(shape).numel()
        return block.repeat(n_values // len(block) + 1)[:n_values].clone().view(shape)

    def write_pair(d_in: int, d_out: int) -> dict[str, torch.Tensor | None]:
        return {"A": draw(1, d_in, 128), "B": draw(1, 128, d_out), "C": None}

    shapes = {name: tensor.shape for name, tensor in make_empty(Shine, CONFIG).state_dict().items()}
    own = {n: s for n, s in shapes.items() if not n.startswith(("metalora.", "mem_tokens"))}
    torch.save(OrderedDict((n, draw(*s)) for n, s in own.items()), tmp_path / "metanetwork.pth")
    groups = {"attention": SIZES, "mlp": MLP}
    pairs = {
        layer: {g: {n: write_pair(*s) for n, s in sizes.items()} for g, sizes in groups.items()}
        for layer in range(36)
    }
    torch.save(pairs, tmp_path / "metalora.pth")
    torch.save(torch.nn.Parameter(torch.zeros(148, 4096)), tmp_path / "mem_tokens.pt")
    del pairs
    assert find_format(tmp_path)[1].read_config(tmp_path) == CONFIG
    (tmp_path / "run.py").write_text(SCRIPT)
    done = run_python(tmp_path / "run.py", tmp_path)
    assert done.returncode == 0, done.stderr
    before, peak, rank, n_modules = map(int, done.stdout.split())
    assert (rank, n_modules) == (8, 252)
    files = sum(file.stat().st_size for file in tmp_path.glob("m*.p*"))
    named = files + 2 * make_network(tmp_path).count_working(TRAINED_TOKENS)  # bf16
    assert files < peak - before <= named, f"{(peak - before) / 1e9:.2f} of {named / 1e9:.2f} GB"
