"""CUDA's precision on the CPU. The pipelines on a pretended GPU are a step of
tests/tools/cuda_proof.py."""

import pytest
import torch
from torch.utils import backend_registration

from d2l.bases import devices
from d2l.hypernets.networks import load_hypernet
from tests.hypernets.loading import NAMES, load_golden

BOUND = 0.05  # of the norm of all deltas; measured: 0.007 to 0.028


def has_python_backends() -> bool:
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


@pytest.mark.parametrize("name", NAMES)
def test_goldens_in_cudas_precision_are_near(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A perceiver in bfloat16 writes nearly the recorded deltas, and not the very same."""
    monkeypatch.setattr(devices, "is_cuda", lambda _: True)
    golden = load_golden(name)
    network = load_hypernet(golden.folder, device="cpu")
    (chunk,) = golden.read_chunks("one", network.config)
    errors, norms = [], []
    for module, factors in network.generate(chunk, network.config.rank).factors.items():
        layer, kind = int(module.split(".")[2]), module.split(".")[-1]
        a, b = (golden.expected[f"one.chunk.{kind}.{side}"][0, layer] for side in "AB")
        wanted = b[: factors.rank].T @ a[: factors.rank]
        errors.append(torch.linalg.norm(factors.b @ factors.a - wanted))
        norms.append(torch.linalg.norm(wanted))
    error = torch.stack(errors).norm() / torch.stack(norms).norm()
    assert 1e-3 < error < BOUND
